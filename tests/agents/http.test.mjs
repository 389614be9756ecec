// The server's HTTP, in front of an engine that says what it is told: right answers, wrong requests, clients that go.
import assert from "node:assert/strict";
import net from "node:net";
import {once} from "node:events";
import test from "node:test";
import {StubEngine, events, gate, serve, until} from "./stub.mjs";

// However it ends.
function closed(socket) {
    return new Promise((resolve) => { socket.on("error", () => {}).on("close", resolve); });
}

test("a completion is OpenAI's", async (t) => {
    const {complete} = await serve(t);
    const answer = await complete({prompt: "hello", max_tokens: 5});
    assert.equal(typeof answer.created, "number");
    delete answer.created;
    assert.deepEqual(answer, {id: "cmpl-1", model: "takt", object: "text_completion", choices: [{index: 0, text: "abcde", finish_reason: "length"}],
        usage: {prompt_tokens: 5, completion_tokens: 5, total_tokens: 10}});
});

test("a chat is OpenAI's", async (t) => {
    const {chat, engine} = await serve(t);
    const answer = await chat({messages: [{role: "system", content: "be kind"}, {role: "user", content: [{type: "text", text: "h"}, {type: "text", text: "i"}]}],
        max_completion_tokens: 3, max_tokens: 7});
    assert.deepEqual(engine.seen, ["system: be kind\nuser: hi\nassistant: "]);
    assert.equal(answer.object, "chat.completion");
    assert.deepEqual(answer.choices, [{index: 0, message: {role: "assistant", content: "abc"}, finish_reason: "length"}]);
});

test("a stream has an event for every token, then the reason with the usage, then its end", async (t) => {
    const {post} = await serve(t);
    const response = await post("/v1/completions", {prompt: "x", max_tokens: 3, stream: true});
    assert.equal(response.headers.get("content-type"), "text/event-stream");
    const lines = await events(response), chunks = lines.slice(0, -1).map(JSON.parse);
    assert.equal(lines.at(-1), "[DONE]");
    assert.deepEqual(chunks.map((c) => [c.object, c.choices[0].text, c.choices[0].finish_reason]),
        [["text_completion", "a", null], ["text_completion", "b", null], ["text_completion", "c", null], ["text_completion", "", "length"]]);
    assert.deepEqual(chunks.map((c) => c.usage), [undefined, undefined, undefined, {prompt_tokens: 1, completion_tokens: 3, total_tokens: 4}]);
    const talk = (await events(await post("/v1/chat/completions", {messages: [{role: "user", content: "x"}], max_tokens: 2, stream: true}))).slice(0, -1).map(JSON.parse);
    assert.deepEqual(talk.map((c) => [c.object, c.choices[0].delta]), [["chat.completion.chunk", {role: "assistant", content: "a"}],
        ["chat.completion.chunk", {role: "assistant", content: "b"}], ["chat.completion.chunk", {}]]);
});

test("a token goes out when it is there, not when the answer is", async (t) => {
    const g = gate(), {post, engine} = await serve(t);
    engine.step = g.step;
    const reader = (await Promise.all([post("/v1/completions", {prompt: "x", max_tokens: 2, stream: true}), g.reached().then(() => g.open())]))[0].body.getReader();
    assert.match(Buffer.from((await reader.read()).value).toString(), /"text":"a"/);
    g.open(true);
    await reader.cancel();
});

test("answers end where the model ends, unless they are to be as long as asked", async (t) => {
    const {complete} = await serve(t);
    const short = await complete({prompt: "x", max_tokens: 50});
    assert.deepEqual([short.choices[0], short.usage.completion_tokens], [{index: 0, text: "abcdefgh", finish_reason: "stop"}, 8]);
    const long = await complete({prompt: "x", max_tokens: 50, ignore_eos: true});
    assert.deepEqual([long.choices[0].text.length, long.choices[0].finish_reason], [50, "length"]);
    assert.equal((await complete({prompt: "x"})).usage.completion_tokens, 8);
    assert.equal((await complete({prompt: "x", ignore_eos: true})).usage.completion_tokens, 16);   // OpenAI's default
});

test("stop sequences end an answer and are not part of it", async (t) => {
    const {complete, post} = await serve(t);
    for (const [stop, text, reason, n] of [["d", "abc", "stop", 4], ["cde", "ab", "stop", 5], [["zz", "ef"], "abcd", "stop", 6], [[], "abcdefgh", "stop", 8],
        ["cdx", "abcdefgh", "stop", 8], ["gh!", "abcdefgh", "stop", 8], ["a", "", "stop", 1], [null, "abcdefgh", "stop", 8]]) {
        const answer = await complete({prompt: "x", max_tokens: 50, stop});
        assert.deepEqual([answer.choices[0].text, answer.choices[0].finish_reason, answer.usage.completion_tokens], [text, reason, n], String(stop));
    }
    const cut = await complete({prompt: "x", max_tokens: 4, stop: "def"});   // "d" might have been its beginning
    assert.deepEqual(cut.choices[0], {index: 0, text: "abcd", finish_reason: "length"});
    const lines = (await events(await post("/v1/completions", {prompt: "x", max_tokens: 9, stop: "cdx", stream: true}))).slice(0, -1).map(JSON.parse);
    assert.deepEqual(lines.map((c) => c.choices[0].text), ["a", "b", "", "", "cde", "f", "g", "h", ""]);   // an event a token all the same
});

test("characters of several tokens go out whole", async (t) => {
    const {complete, engine, post} = await serve(t);
    engine.says = "é€😀x";
    assert.equal((await complete({prompt: "x", max_tokens: 50})).choices[0].text, "é€😀x");
    const texts = (await events(await post("/v1/completions", {prompt: "x", max_tokens: 50, stream: true}))).slice(0, -1).map((l) => JSON.parse(l).choices[0].text);
    assert.deepEqual(texts, ["", "é", "", "", "€", "", "", "", "😀", "x", ""]);
    assert.equal((await complete({prompt: "x", max_tokens: 1})).choices[0].text, "\uFFFD");   // cut in its middle
    engine.says = "é";
    assert.equal((await complete({prompt: "x", stop: "é", max_tokens: 9})).choices[0].text, "");
});

test("a body may come in pieces, cut within a character", async (t) => {
    const {port, engine, server} = await serve(t);
    const body = Buffer.from(JSON.stringify({prompt: "€€€", max_tokens: 1})), at = body.indexOf(0x82);
    const head = `POST /v1/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: ${body.length}\r\n\r\n`;
    const socket = net.connect(port, "127.0.0.1"), [there] = await once(server, "connection");
    socket.write(head);
    socket.write(body.subarray(0, at));
    await until(() => there.bytesRead === head.length + at);
    await new Promise((go) => setImmediate(go));
    socket.write(body.subarray(at));
    await closed(socket.resume());
    assert.deepEqual(engine.seen, ["€€€"]);
});

const wrong = [
    ["no JSON", "{", /no JSON/], ["nothing", "", /no JSON/], ["no UTF-8", Buffer.from([0x22, 0xff, 0x22]), /no JSON/], ["a list", [], /no JSON object/],
    ["null", "null", /no JSON object/], ["a text", '"x"', /no JSON object/], ["no prompt", {}, /a prompt is needed/], ["an empty prompt", {prompt: ""}, /a prompt/],
    ["a number", {prompt: 5}, /a prompt/], ["no tokens", {prompt: []}, /a prompt/], ["a token that there is not", {prompt: [1, 256]}, /a prompt/],
    ["half a token", {prompt: [1.5]}, /a prompt/], ["less than a token", {prompt: [-1]}, /a prompt/], ["texts as tokens", {prompt: ["a", "b"]}, /a prompt/],
    ["two kinds", {prompt: [1, "a"]}, /a prompt/], ["no answer", {prompt: "x", max_tokens: 0}, /max_tokens/], ["half an answer", {prompt: "x", max_tokens: 1.5}, /max_tokens/],
    ["a text for a number", {prompt: "x", max_tokens: "9"}, /max_tokens/], ["endless", {prompt: "x", max_tokens: 1e300}, /max_tokens|context/],
    ["more than the context", {prompt: "x".repeat(90), max_tokens: 11}, /90 tokens of prompt and 11 of answer are more than the context's 100/],
    ["two answers", {prompt: "x", n: 2}, /n is 1/], ["a stream of sorts", {prompt: "x", stream: "yes"}, /stream is true or false/],
    ["an end of sorts", {prompt: "x", ignore_eos: 1}, /ignore_eos is true or false/], ["five stops", {prompt: "x", stop: ["1", "2", "3", "4", "5"]}, /stop/],
    ["an empty stop", {prompt: "x", stop: ""}, /stop/], ["a stop that is none", {prompt: "x", stop: [1]}, /stop/]
];
const wrongChat = [[{}, /messages are needed/], [{messages: []}, /messages/], [{messages: "hi"}, /messages/], [{messages: [null]}, /a role and a text/],
    [{messages: ["hi"]}, /a role/], [{messages: [{content: "x"}]}, /a role/], [{messages: [{role: "user", content: 5}]}, /a text/],
    [{messages: [{role: "user", content: [{type: "image_url"}]}]}, /a text/], [{messages: [{role: "user", content: [null]}]}, /a text/]];

test("wrong requests are told what is wrong, and cost nothing", async (t) => {
    const {post, told, metrics, engine} = await serve(t);
    const check = async (path, body, said) => {
        const response = await post(path, Buffer.isBuffer(body) ? undefined : body, Buffer.isBuffer(body) ? {body} : {});
        const {error} = await response.json();
        assert.deepEqual([response.status, error.type], [400, "invalid_request_error"], error.message);
        assert.match(error.message, said);
    };
    for (const [, body, said] of wrong) await check("/v1/completions", body, said);
    for (const [body, said] of wrongChat) await check("/v1/chat/completions", body, said);
    assert.deepEqual([told, engine.seen], [[], []]);   // the scheduler never heard of them
    assert.match(await metrics(), /^vllm:num_requests_running\{model_name="takt"\} 0$/m);
});

test("unknown paths and wrong methods", async (t) => {
    const {url} = await serve(t);
    for (const path of ["/", "/v1", "/v1/completions/", "/v2/completions", "/constructor", "/toString", "//health"])
        assert.equal((await fetch(url + path)).status, 404, path);
    for (const [path, method, allow] of [["/v1/completions", "GET", "POST"], ["/v1/chat/completions", "PUT", "POST"], ["/v1/completions", "HEAD", "POST"],
        ["/health", "POST", "GET"], ["/metrics", "DELETE", "GET"], ["/v1/models", "PATCH", "GET"]]) {
        const response = await fetch(url + path, {method});
        assert.deepEqual([response.status, response.headers.get("allow")], [405, allow], `${method} ${path}`);
    }
    assert.equal((await fetch(`${url}/health?x=1`)).status, 200);
    assert.equal((await fetch(`${url}/health`, {method: "HEAD"})).status, 200);
    assert.equal(await (await fetch(`${url}/health`)).text(), "ok\n");
    assert.deepEqual(await (await fetch(`${url}/v1/models`)).json(), {object: "list", data: [{id: "takt", object: "model", created: 0, owned_by: "takt"}]});
});

test("a body that is too large is not read to its end", async (t) => {
    const {port, post} = await serve(t, new StubEngine(), {maxBytes: 1000});
    assert.equal((await post("/v1/completions", {prompt: "x".repeat(90), max_tokens: 1})).status, 200);
    const socket = net.connect(port, "127.0.0.1");
    socket.write("POST /v1/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
    socket.write(`7d0\r\n${"x".repeat(2000)}\r\n`);   // and no end
    let text = "";
    socket.on("data", (part) => { text += part; });
    await closed(socket);
    assert.match(text, /^HTTP\/1\.1 413 /);
    assert.match(text, /a request has up to 1000 bytes/);
});

test("an engine that breaks is a 500, and the next request is served", async (t) => {
    const {complete, post, engine, told} = await serve(t);
    engine.failAt = 0;
    const response = await post("/v1/completions", {prompt: "x"});
    assert.deepEqual([response.status, (await response.json()).error], [500, {message: "the engine broke", type: "server_error"}]);
    engine.failAt = 3;
    await assert.rejects(async () => (await post("/v1/completions", {prompt: "x", stream: true})).text());   // broken off: its end would say that it is whole
    engine.failAt = Infinity;
    assert.equal((await complete({prompt: "x", max_tokens: 1})).choices[0].text, "a");
    assert.equal(engine.free, 2);
    assert.equal(told.filter((line) => line.startsWith("arrived")).length, told.filter((line) => line.startsWith("finished")).length);
});

test("the scheduler is told in order, once each", async (t) => {
    const {complete, told} = await serve(t);
    await complete({prompt: "x", max_tokens: 3});
    await complete({prompt: "x", max_tokens: 1});
    assert.deepEqual(told, ["arrived 1", "first_token 1", "finished 1", "arrived 2", "first_token 2", "finished 2"]);
});

test("the scheduler is told of the end before the last text goes out", async (t) => {
    const {post, told, server} = await serve(t);
    server.prependListener("request", (_, response) => {
        const write = response.write;
        response.write = function (...args) {
            told.push("text");
            return write.apply(this, args);
        };
    });
    await events(await post("/v1/completions", {prompt: "x", max_tokens: 2, stream: true}));
    assert.deepEqual(told, ["arrived 1", "first_token 1", "text", "finished 1", "text"]);
});

test("several are served at once; those past the number of sequences wait their turn", async (t) => {
    const g = gate(), {complete, engine, told, metrics} = await serve(t, new StubEngine(2));
    engine.step = g.step;
    const answers = [1, 2, 3].map((n) => complete({prompt: `prompt ${n}`, max_tokens: 2}));
    await until(() => engine.seen.length === 2 && engine.waiting === 1);
    assert.match(await metrics(), /^vllm:num_requests_running\{model_name="takt"\} 2\nvllm.*|num_requests_waiting\{model_name="takt"\} 1$/m);
    assert.match(await metrics(), /^vllm:num_requests_waiting\{model_name="takt"\} 1$/m);
    g.open(true);
    assert.deepEqual((await Promise.all(answers)).map((a) => a.choices[0].text), ["ab", "ab", "ab"]);
    assert.equal(engine.seen.length, 3);
    assert.equal(told.length, 9);
    assert.equal(engine.free, 2);
});

// Sends a request and goes once `when` says so.
async function leave(port, when, stream) {
    const body = JSON.stringify({prompt: "x", max_tokens: 50, ignore_eos: true, stream});
    const socket = net.connect(port, "127.0.0.1");
    socket.write(`POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
    await when(socket);
    socket.destroy();
}

test("who goes while its answer is made gives its sequence back", async (t) => {
    for (const stream of [true, false]) {
        const g = gate(), {port, engine, told, metrics} = await serve(t, new StubEngine(1));
        engine.step = g.step;
        await leave(port, async () => { await g.reached(); g.open(); await g.reached(); }, stream);
        // The engine is at its second token: that is its last.
        await until(async () => { g.open(); return engine.free === 1; });
        await until(() => told.length === 3);
        assert.deepEqual(told, ["arrived 1", "first_token 1", "finished 1"]);
        const text = await metrics();
        assert.match(text, /request_success_total\{model_name="takt",finished_reason="abort"\} 1$/m);
        assert.match(text, /e2e_request_latency_seconds_count\{model_name="takt"\} 0$/m);
    }
});

test("who goes while it waits is not served any more", async (t) => {
    const g = gate(), {port, engine, complete, told} = await serve(t, new StubEngine(1));
    engine.step = g.step;
    const first = complete({prompt: "first", max_tokens: 1});
    await g.reached();
    await leave(port, () => until(() => engine.waiting === 1), true);
    await until(() => engine.waiting === 0);
    g.open(true);
    assert.equal((await first).choices[0].text, "a");
    assert.deepEqual(engine.seen, ["first"]);
    assert.deepEqual(told.filter((line) => line.endsWith(" 2")), ["arrived 2", "finished 2"]);
});

test("who goes before its body is whole leaves nothing", async (t) => {
    const {port, told, complete, engine} = await serve(t);
    const socket = net.connect(port, "127.0.0.1");
    socket.write("POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{");
    await once(socket, "connect");
    socket.destroy();
    await complete({prompt: "x", max_tokens: 1});
    assert.deepEqual([told[0], engine.free], ["arrived 1", 2]);
});

test("no HTTP is answered as such", async (t) => {
    const {port, complete} = await serve(t);
    for (const text of ["\0\0\0\0\r\n\r\n", "GET\r\n\r\n", `GET / HTTP/1.1\r\nx: ${"y".repeat(100000)}\r\n\r\n`,
        "POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n"]) {
        const socket = net.connect(port, "127.0.0.1");
        socket.on("error", () => {});
        socket.write(text);
        await closed(socket.resume());
    }
    assert.equal((await complete({prompt: "x", max_tokens: 1})).choices[0].text, "a");
});

test("a connection serves many requests", async (t) => {
    const {port} = await serve(t);
    const body = '{"prompt":"x","max_tokens":1}', one = `POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
    const socket = net.connect(port, "127.0.0.1");
    let text = "";
    socket.on("data", (part) => { text += part; });
    socket.write(one + "POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n{" + one);   // the one between is wrong
    await until(() => text.split("HTTP/1.1 ").length === 4);
    assert.deepEqual(text.split("HTTP/1.1 ").slice(1).map((part) => part.slice(0, 3)), ["200", "400", "200"]);
    socket.destroy();
});
