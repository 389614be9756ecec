// An OpenAI-compatible server on the unmodified CUDA engine of llama.cpp, as node-llama-cpp ships it.
//
//   node server.mjs --model FILE [--port 0] [--context 2048] [--sequences 8] [--batch 64]
//
// Prints {"port": N} when it is ready. Answers have exactly max_tokens tokens (the end-of-text token is passed over):
// the model may be a random one. A prompt may be text or a list of token ids.
import http from "node:http";
import {parseArgs} from "node:util";
import {getLlama} from "node-llama-cpp";
import {Metrics} from "./metrics.mjs";
import {tell} from "./requests.mjs";

const {values: options} = parseArgs({options: {
    model: {type: "string"}, port: {type: "string", default: "0"}, context: {type: "string", default: "2048"},
    sequences: {type: "string", default: "8"}, batch: {type: "string", default: "64"}
}});
if (!options.model) {
    console.error("server: --model FILE is needed");
    process.exit(2);
}

const llama = await getLlama({gpu: "cuda", build: "never", logLevel: "error"});
const model = await llama.loadModel({modelPath: options.model, gpuLayers: "max"});
const context = await model.createContext({
    contextSize: Number(options.context), sequences: Number(options.sequences), batchSize: Number(options.batch),
    batching: {dispatchSchedule: "nextCycle", itemPrioritizationStrategy: "maximumParallelism"}
});
const metrics = new Metrics(options.model);
const free = Array.from({length: Number(options.sequences)}, () => context.getSequence());
const waiting = [];
let nextId = 1;

// A sequence of the context to itself; those past the number wait their turn, first come, first served.
async function withSequence(work) {
    const sequence = free.pop() ?? await new Promise((resolve) => waiting.push(resolve));
    try {
        return await work(sequence);
    } finally {
        await sequence.clearHistory(); // so that the next prompt is computed whole
        const next = waiting.shift();
        if (next) next(sequence);
        else free.push(sequence);
    }
}

async function generate(request, tokens, maxTokens, onToken) {
    await withSequence(async (sequence) => {
        let n = 0;
        for await (const token of sequence.evaluate(tokens, {temperature: 0})) {
            if (request.cancelled) break;
            if (n === 0) tell("first_token", request.id);
            request.token();
            onToken(model.detokenize([token]));
            if (++n >= maxTokens) break;
        }
    });
}

function promptOf(body, isChat) {
    if (!isChat) return body.prompt;
    return (body.messages ?? []).map((m) => `${m.role}: ${m.content}\n`).join("") + "assistant: ";
}

function fail(response, status, message) {
    response.writeHead(status, {"content-type": "application/json"});
    response.end(JSON.stringify({error: {message, type: "invalid_request_error"}}));
}

function chunk(id, isChat, text, finish) {
    const choice = {index: 0, finish_reason: finish};
    if (isChat) choice.delta = text === undefined ? {} : {content: text};
    else choice.text = text ?? "";
    return {id, object: isChat ? "chat.completion.chunk" : "text_completion", model: "takt", choices: [choice]};
}

async function complete(incoming, response, isChat) {
    const id = String(nextId++);
    tell("arrived", id);
    const request = Object.assign(metrics.arrived(), {id});
    let ended = false;
    const end = () => {
        if (!ended) { ended = true; tell("finished", id); request.finished(); }
    };
    response.on("close", () => { request.cancelled = true; });
    try {
        let text = "";
        for await (const part of incoming) text += part;
        const body = JSON.parse(text);
        const prompt = promptOf(body, isChat);
        const tokens = Array.isArray(prompt) ? prompt : model.tokenize(String(prompt ?? ""));
        const maxTokens = Number(body.max_tokens ?? 16);
        if (!tokens.length || !(maxTokens >= 1)) throw new SyntaxError("a prompt and max_tokens of at least 1 are needed");
        request.prompt(tokens.length);
        const name = `cmpl-${id}`;
        if (body.stream) {
            response.writeHead(200, {"content-type": "text/event-stream", "cache-control": "no-cache"});
            await generate(request, tokens, maxTokens, (t) => response.write(`data: ${JSON.stringify(chunk(name, isChat, t, null))}\n\n`));
            end();
            response.end(`data: ${JSON.stringify({...chunk(name, isChat, undefined, "length"), usage: request.usage()})}\n\ndata: [DONE]\n\n`);
        } else {
            let answer = "";
            await generate(request, tokens, maxTokens, (t) => { answer += t; });
            end();
            const choice = isChat ? {index: 0, message: {role: "assistant", content: answer}, finish_reason: "length"}
                : {index: 0, text: answer, finish_reason: "length"};
            response.writeHead(200, {"content-type": "application/json"});
            response.end(JSON.stringify({id: name, object: isChat ? "chat.completion" : "text_completion", model: "takt",
                choices: [choice], usage: request.usage()}));
        }
    } catch (error) {
        if (!response.headersSent) fail(response, error instanceof SyntaxError ? 400 : 500, String(error.message));
        else response.end();
    } finally {
        end();
    }
}

const server = http.createServer((incoming, response) => {
    const url = incoming.url.split("?")[0];
    if (incoming.method === "POST" && url === "/v1/completions") return complete(incoming, response, false);
    if (incoming.method === "POST" && url === "/v1/chat/completions") return complete(incoming, response, true);
    if (url === "/health") return response.end("ok\n");
    if (url === "/metrics") return response.end(metrics.text());
    if (url === "/v1/models") {
        response.writeHead(200, {"content-type": "application/json"});
        return response.end(JSON.stringify({object: "list", data: [{id: "takt", object: "model"}]}));
    }
    fail(response, 404, `no such path: ${url}`);
});
server.listen(Number(options.port), "127.0.0.1", () => console.log(JSON.stringify({port: server.address().port})));
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(0));
