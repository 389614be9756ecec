// An engine without a GPU: it says what the test wants, when the test wants it.
import {once} from "node:events";
import {makeServer} from "../../agents/http.mjs";
import {Pool} from "../../agents/pool.mjs";

export class StubEngine {
    contextSize = 100;
    vocabulary = 256;      // a token is a byte
    says = "abcdefgh";
    seen = [];             // the prompts
    step = async () => {}; // awaited before each token
    failAt = Infinity;
    #pool;

    constructor(sequences = 2) { this.#pool = new Pool(Array(sequences).fill("a sequence")); }

    get waiting() { return this.#pool.waiting; }
    get free() { return this.#pool.free; }
    tokenize(text) { return [...Buffer.from(text)]; }
    detokenize(tokens) { return Buffer.from(tokens).toString(); }

    async *generate(tokens, {ignoreEnd, signal}) {
        const sequence = await this.#pool.take(signal);
        this.seen.push(Buffer.from(tokens).toString());
        try {
            let n = 0;
            do {
                for (const token of Buffer.from(this.says)) {
                    await this.step(signal);
                    if (signal.aborted) return;
                    if (n++ === this.failAt) throw new Error("the engine broke");
                    yield token;
                }
            } while (ignoreEnd);
        } finally {
            this.#pool.give(sequence);
        }
    }
}

// A gate for engine.step: tokens come one for each call of open(), or all once it is called with true.
export function gate() {
    const waiting = [];
    let all = false, arrived = Promise.withResolvers?.() ?? deferred();
    return {
        step: () => all ? undefined : new Promise((go) => { waiting.push(go); arrived.resolve(); }),
        // Once somebody waits.
        async reached() { await arrived.promise; },
        open(forGood = false) {
            all = forGood;
            arrived = deferred();
            for (const go of forGood ? waiting.splice(0) : waiting.splice(0, 1)) go();
        }
    };
}

export function deferred() {
    const d = {};
    d.promise = new Promise((resolve, reject) => Object.assign(d, {resolve, reject}));
    return d;
}

export async function serve(test, engine = new StubEngine(), options = {}) {
    const told = [];
    const server = makeServer(engine, {tell: (event, id) => told.push(`${event} ${id}`), idPrefix: "", ...options});
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    test.after(() => { server.closeAllConnections(); server.close(); });
    const port = server.address().port, url = `http://127.0.0.1:${port}`;
    const post = (path, body, more = {}) => fetch(url + path, {method: "POST", body: typeof body === "string" ? body : JSON.stringify(body), ...more});
    const complete = async (body) => (await post("/v1/completions", body)).json();
    const chat = async (body) => (await post("/v1/chat/completions", body)).json();
    return {engine, told, server, port, url, post, complete, chat, metrics: async () => (await fetch(`${url}/metrics`)).text()};
}

// The data lines of an event stream.
export async function events(response) {
    return (await response.text()).split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6));
}

// Until found() is true; a turn of the event loop each time.
export async function until(found) {
    while (!await found()) await new Promise((go) => setImmediate(go));
}
