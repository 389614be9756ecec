// An OpenAI-compatible server on the unmodified CUDA engine of llama.cpp.
//
//   node server.mjs --model FILE [--host 127.0.0.1] [--port 0] [--context 2048] [--sequences 8] [--batch 64]
//
// Prints {"port": N} when it is ready. Of each token an event goes out at once. A prompt may be text or a list of token ids;
// with "ignore_eos" answers have exactly max_tokens tokens, whatever the model would say.
import {parseArgs} from "node:util";
import {makeServer} from "./http.mjs";
import {teller} from "./requests.mjs";

function fail(message) {
    console.error(`server: ${message}`);
    process.exit(2);
}

function wish() {
    const options = {model: {type: "string"}, host: {type: "string", default: "127.0.0.1"}, port: {type: "string", default: "0"},
        context: {type: "string", default: "2048"}, sequences: {type: "string", default: "8"}, batch: {type: "string", default: "64"}};
    let values;
    try {
        ({values} = parseArgs({options}));
    } catch (error) {
        fail(error.message);
    }
    if (!values.model) fail("--model FILE is needed");
    for (const name of ["port", "context", "sequences", "batch"]) {
        if (!/^\d+$/.test(values[name]) || (name !== "port" && values[name] === "0")) fail(`--${name} ${values[name]} is no number`);
        values[name] = Number(values[name]);
    }
    return values;
}

const options = wish();
const {loadEngine} = await import("./engine.mjs");   // it needs what script/fetch brings
const engine = await loadEngine(options).catch((error) => fail(error.message));
const server = makeServer(engine, {tell: teller(process.env.TAKT_REQUESTS)});
server.on("error", (error) => fail(error.message));
server.listen(options.port, options.host, () => console.log(JSON.stringify({port: server.address().port})));
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(0));
