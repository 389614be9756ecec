// OpenAI's HTTP interface in front of an engine; which engine it is, it does not know (see engine.mjs for what one has).
import http from "node:http";
import {Metrics} from "./metrics.mjs";
import {Text} from "./text.mjs";

const MODEL = "takt";

class HttpError extends Error {
    constructor(status, message, headers = {}) {
        super(message);
        Object.assign(this, {status, headers});
    }
}

const bad = (message) => new HttpError(400, message);

async function readBody(incoming, maxBytes) {
    const parts = [];
    let size = 0;
    for await (const part of incoming) {
        size += part.length;
        // The rest is not read: the connection cannot be used for another request.
        if (size > maxBytes) throw new HttpError(413, `a request has up to ${maxBytes} bytes`, {connection: "close"});
        parts.push(part);
    }
    try {
        return JSON.parse(new TextDecoder("utf-8", {fatal: true}).decode(Buffer.concat(parts)));
    } catch (error) {
        throw bad(`the body is no JSON: ${error.message}`);
    }
}

function contentOf(message) {
    const {role, content} = message ?? {};
    const parts = Array.isArray(content) ? content : [{type: "text", text: content ?? ""}];
    if (typeof role !== "string" || !parts.every((part) => part?.type === "text" && typeof part.text === "string"))
        throw bad("a message has a role and a text");
    return `${role}: ${parts.map((part) => part.text).join("")}\n`;
}

function promptTokens(body, isChat, engine) {
    if (isChat) {
        if (!Array.isArray(body.messages) || !body.messages.length) throw bad("messages are needed");
        return engine.tokenize(body.messages.map(contentOf).join("") + "assistant: ");
    }
    const prompt = Array.isArray(body.prompt) && body.prompt.length === 1 && typeof body.prompt[0] === "string" ? body.prompt[0] : body.prompt;
    if (typeof prompt === "string" && prompt) return engine.tokenize(prompt);
    // An engine that is given a token it does not know ends with its process.
    if (Array.isArray(prompt) && prompt.length && prompt.every((t) => Number.isInteger(t) && t >= 0 && t < engine.vocabulary)) return prompt;
    throw bad("a prompt is needed: a text, or a list of the model's tokens");
}

function stopsOf({stop}) {
    const stops = stop === undefined || stop === null ? [] : [stop].flat();
    if (stops.length > 4 || !stops.every((s) => typeof s === "string" && s)) throw bad("stop is up to four texts");
    return stops;
}

// What of the body matters, or an error that says what is wrong.
function wishOf(body, isChat, engine) {
    if (typeof body !== "object" || body === null || Array.isArray(body)) throw bad("the body is no JSON object");
    const maxTokens = (isChat ? body.max_completion_tokens : undefined) ?? body.max_tokens ?? 16;
    if (!Number.isInteger(maxTokens) || maxTokens < 1) throw bad("max_tokens is a whole number of at least 1");
    if ((body.n ?? 1) !== 1) throw bad("only one answer is given: n is 1");
    for (const flag of ["stream", "ignore_eos"])
        if (typeof (body[flag] ?? false) !== "boolean") throw bad(`${flag} is true or false`);
    const tokens = promptTokens(body, isChat, engine);
    if (!tokens.length) throw bad("the prompt has no tokens");
    if (tokens.length + maxTokens > engine.contextSize)
        throw bad(`${tokens.length} tokens of prompt and ${maxTokens} of answer are more than the context's ${engine.contextSize}`);
    return {tokens, maxTokens, stops: stopsOf(body), stream: body.stream ?? false, ignoreEnd: body.ignore_eos ?? false};
}

// Calls onText for every token, with the text that may go out, and onLast before it for the last. Returns why it ended.
async function generate(engine, wish, signal, marks, onLast, onText) {
    const text = new Text((tokens) => engine.detokenize(tokens), wish.stops);
    let n = 0;
    for await (const token of engine.generate(wish.tokens, {most: wish.maxTokens, ignoreEnd: wish.ignoreEnd, signal})) {
        marks.token();
        const out = text.push(token);
        const isLast = text.stopped || ++n >= wish.maxTokens;
        if (isLast) onLast();
        onText(isLast ? out + text.end() : out);
        if (isLast) return text.stopped ? "stop" : "length";
    }
    signal.throwIfAborted();
    const rest = text.end();   // the model had no more to say
    if (rest) onText(rest);
    return "stop";
}

function shaped(isChat, id, created) {
    const whole = {id, created, model: MODEL};
    return {
        chunk: (text, finish_reason, more = {}) => ({...whole, object: isChat ? "chat.completion.chunk" : "text_completion",
            choices: [{index: 0, ...isChat ? {delta: text === undefined ? {} : {role: "assistant", content: text}} : {text: text ?? ""}, finish_reason}],
            ...more}),
        answer: (text, finish_reason, usage) => ({...whole, object: isChat ? "chat.completion" : "text_completion",
            choices: [{index: 0, ...isChat ? {message: {role: "assistant", content: text}} : {text}, finish_reason}], usage})
    };
}

function sendJson(response, status, object, headers = {}) {
    response.writeHead(status, {"content-type": "application/json", ...headers});
    response.end(JSON.stringify(object));
}

function sendError(response, error) {
    const status = error.status ?? 500;
    sendJson(response, status, {error: {message: String(error.message), type: status < 500 ? "invalid_request_error" : "server_error"}}, error.headers);
}

export function makeServer(engine, {tell = () => {}, maxBytes = 4 << 20, idPrefix = `${process.pid}-`} = {}) {
    const metrics = new Metrics(MODEL, () => engine.waiting);
    let nextId = 1;

    async function answer(response, wish, isChat, id, marks, onLast, signal) {
        const shape = shaped(isChat, `cmpl-${id}`, Math.floor(Date.now() / 1000));
        if (!wish.stream) {
            let text = "";
            const reason = await generate(engine, wish, signal, marks, onLast, (t) => { text += t; });
            sendJson(response, 200, shape.answer(text, reason, marks.usage()));
            return reason;
        }
        response.writeHead(200, {"content-type": "text/event-stream", "cache-control": "no-cache"});
        const reason = await generate(engine, wish, signal, marks, onLast, (t) => response.write(`data: ${JSON.stringify(shape.chunk(t, null))}\n\n`));
        response.end(`data: ${JSON.stringify(shape.chunk(undefined, reason, {usage: marks.usage()}))}\n\ndata: [DONE]\n\n`);
        return reason;
    }

    async function complete(incoming, response, isChat) {
        const gone = new AbortController();
        response.on("close", () => { if (!response.writableEnded) gone.abort(new Error("the client has gone")); });
        const wish = wishOf(await readBody(incoming, maxBytes), isChat, engine);
        const id = idPrefix + nextId++;   // unlike those of the tenant's other processes
        let reason = "abort", isOver = false;
        // Told before the last text goes out: who waits for the device need not wait for that.
        const over = () => {
            if (!isOver) tell("finished", id);
            isOver = true;
        };
        tell("arrived", id);
        const marks = metrics.arrived(wish.tokens.length, () => tell("first_token", id));
        try {
            reason = await answer(response, wish, isChat, id, marks, over, gone.signal);
        } finally {
            over();
            marks.finished(reason);
        }
    }

    const routes = {
        "/v1/completions": {POST: (incoming, response) => complete(incoming, response, false)},
        "/v1/chat/completions": {POST: (incoming, response) => complete(incoming, response, true)},
        "/v1/models": {GET: (_, response) => sendJson(response, 200, {object: "list", data: [{id: MODEL, object: "model", created: 0, owned_by: "takt"}]})},
        "/health": {GET: (_, response) => response.end("ok\n")},
        "/metrics": {GET: (_, response) => {
            response.writeHead(200, {"content-type": "text/plain; version=0.0.4; charset=utf-8"});
            response.end(metrics.text());
        }}
    };

    return http.createServer(async (incoming, response) => {
        try {
            const path = incoming.url.split("?")[0];
            const methods = routes[path];
            if (!methods) throw new HttpError(404, `no such path: ${path}`);
            const handle = methods[incoming.method === "HEAD" ? "GET" : incoming.method];
            if (!handle) throw new HttpError(405, `${path} takes ${Object.keys(methods)}`, {allow: Object.keys(methods).join(", ")});
            await handle(incoming, response);
        } catch (error) {
            // An answer that has begun can only be broken off: its end would say that it is whole.
            if (response.headersSent || response.destroyed) response.destroy();
            else sendError(response, error);
        }
    });
}
