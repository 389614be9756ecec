// The server's parts: the pool of sequences, the metrics' numbers worked out by hand, the lines to the scheduler.
import assert from "node:assert/strict";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import {once} from "node:events";
import test from "node:test";
import {Batch} from "../../agents/batch.mjs";
import {Metrics} from "../../agents/metrics.mjs";
import {Pool} from "../../agents/pool.mjs";
import {teller} from "../../agents/requests.mjs";
import {Text} from "../../agents/text.mjs";
import {until} from "./stub.mjs";

test("a pool gives each to one, first come, first served", async () => {
    const pool = new Pool(["a", "b"]);
    assert.deepEqual(new Set([await pool.take(), await pool.take()]), new Set(["a", "b"]));
    const order = [];
    const waiting = [1, 2, 3].map((n) => pool.take().then((thing) => order.push([n, thing])));
    assert.deepEqual([pool.waiting, pool.free], [3, 0]);
    for (const thing of ["a", "b", "a"]) pool.give(thing);
    await Promise.all(waiting);
    assert.deepEqual(order, [[1, "a"], [2, "b"], [3, "a"]]);
    pool.give("a");
    assert.deepEqual([pool.waiting, pool.free], [0, 1]);
});

test("who gives up waiting is forgotten, whoever it is in the row", async () => {
    const pool = new Pool(["a"]), leave = new AbortController();
    await pool.take();
    const first = pool.take(), second = pool.take(leave.signal), third = pool.take();
    leave.abort(new Error("gone"));
    await assert.rejects(second, /gone/);
    await assert.rejects(pool.take(leave.signal), /gone/);   // and whoever has gone already
    pool.give("a");
    assert.equal(await first, "a");
    pool.give("a");
    assert.equal(await third, "a");
    assert.equal(pool.waiting, 0);
});

test("giving up after being served takes nothing back", async () => {
    const pool = new Pool([]), leave = new AbortController();
    const served = pool.take(leave.signal), other = pool.take();
    pool.give("a");
    assert.equal(await served, "a");
    leave.abort(new Error("late"));
    assert.equal(pool.waiting, 1);
    pool.give("b");
    assert.equal(await other, "b");
});

// An engine for a Batch that computes when it is told to, and what it was asked for: of each step its rows as
// [place, at, tokens, last]. The tokens that it says are counted up from 100.
function computer(end) {
    let next = 100, answer, fail;
    const steps = [], forgotten = [], asked = [];
    return {
        steps, forgotten,
        compute: (rows) => {
            steps.push(rows.map(({place, at, tokens, last}) => [place, at, tokens.join(" "), last]));
            asked.shift()?.();
            return new Promise((resolve, reject) => {
                answer = () => resolve(rows.map(({last}) => last ? next++ : undefined));
                fail = reject;
            });
        },
        forget: (place) => forgotten.push(place),
        isEnd: (token) => token === end,
        // Ends the step; turns of the event loop, so that all that follows from it has been done.
        async step() { answer(); await turn(); },
        async fails(error) { fail(error); await turn(); }
    };
}

const batchOf = (engine, size) => new Batch(engine, size, setImmediate);

async function turn() {
    for (let i = 0; i < 3; i++) await new Promise((go) => setImmediate(go));
}

// A session that writes down its tokens, and "end" or the error it ended with.
function session(batch, prompt, more) {
    const said = [];
    (async () => {
        try {
            for await (const token of batch.follow(prompt, {most: 2, ...more})) said.push(token);
            said.push("end");
        } catch (error) { said.push(error.message); }
    })();
    return said;
}

test("a prompt is computed in pieces, and then a token a step", async () => {
    const engine = computer(), batch = batchOf(engine, 4), said = session(batch, [1, 2, 3, 4, 5, 6], {place: 3});
    await engine.step();
    assert.deepEqual(said, []);
    await engine.step();
    assert.deepEqual([said, engine.forgotten], [[100], []]);
    await engine.step();
    assert.deepEqual([said, engine.forgotten], [[100, 101, "end"], [3]]);
    assert.deepEqual(engine.steps, [[[3, 0, "1 2 3 4", false]], [[3, 4, "5 6", true]], [[3, 6, "100", true]]]);
});

test("sessions are computed together in the order of their places; while there is a prompt, each second step is that alone", async () => {
    const engine = computer(), batch = batchOf(engine, 4);
    session(batch, [1], {place: 1, most: 9});
    await engine.step();
    session(batch, [3, 3, 3, 3, 3], {place: 0, most: 9});
    session(batch, [4, 4, 4, 4], {place: 3, most: 9});
    for (let i = 0; i < 6; i++) await engine.step();
    assert.deepEqual(engine.steps.map((rows) => rows.map(([place, , tokens]) => `${place}: ${tokens}`).join(", ")), [
        "1: 1", "1: 100", "0: 3 3 3 3", "0: 3, 1: 101, 3: 4 4", "3: 4 4", "0: 102, 1: 103, 3: 104", "0: 105, 1: 106, 3: 107", "0: 108, 1: 109, 3: 110"
    ]);
});

test("the next step begins before the tokens of the last go out", async () => {
    const engine = computer(), batch = batchOf(engine, 4), seen = [];
    (async () => { for await (const _ of batch.follow([1], {place: 0, most: 3})) seen.push(engine.steps.length); })();
    for (let i = 0; i < 3; i++) await engine.step();
    assert.deepEqual(seen, [2, 3, 3]);   // there is no fourth
});

test("tokens go out when the engine has had time to begin; the last ones at once", async () => {
    const engine = computer(), due = [], batch = new Batch(engine, 4, (call) => due.push(call)), said = session(batch, [1], {place: 0});
    await engine.step();
    assert.deepEqual([said, engine.steps.length, due.length], [[], 2, 1]);
    due.shift()();
    await turn();
    assert.deepEqual(said, [100]);
    await engine.step();
    assert.deepEqual([said, due], [[100, 101, "end"], []]);
});

test("a text ends where the model says so, unless that is not to count", async () => {
    for (const [ignoreEnd, wanted] of [[false, [100, "end"]], [true, [100, 101, 102, "end"]]]) {
        const engine = computer(101), said = session(batchOf(engine, 4), [1], {place: 0, most: 3, ignoreEnd});
        while (said.at(-1) !== "end") await engine.step();
        assert.deepEqual(said, wanted);
    }
});

test("who goes is computed no more, and its place is free when the step is over, not before", async () => {
    const engine = computer(), batch = batchOf(engine, 4), other = session(batch, [1], {place: 0, most: 9});
    const going = batch.follow([2], {place: 1, most: 9});
    const first = going.next();
    for (let i = 0; i < 2; i++) await engine.step();
    assert.equal((await first).value, 102);
    let isFree = false;
    going.return().then(() => { isFree = true; });
    await turn();
    assert.deepEqual([isFree, engine.forgotten], [false, []]);
    await engine.step();
    assert.deepEqual([isFree, engine.forgotten], [true, [1]]);
    await engine.step();
    assert.deepEqual(engine.steps.at(-1).map(([place]) => place), [0]);
    assert.equal(other.length, 4);
});

test("whose client goes during a prompt ends with the step, also while others' prompts come before", async () => {
    const engine = computer(), batch = batchOf(engine, 2), leave = new AbortController();
    session(batch, [1, 1, 1, 1, 1, 1], {place: 0});
    const said = session(batch, [2, 2, 2, 2], {place: 1, signal: leave.signal});
    await engine.step();
    leave.abort();
    await engine.step();
    assert.deepEqual([said, engine.forgotten], [["end"], [1]]);
});

test("a step that fails ends those in it and nobody else", async () => {
    const engine = computer(), batch = batchOf(engine, 2), inIt = session(batch, [1, 1], {place: 0}), after = session(batch, [2], {place: 1});
    await engine.fails(new Error("no memory"));
    assert.deepEqual([inIt, after, engine.forgotten], [["no memory"], [], [0]]);
    for (let i = 0; i < 2; i++) await engine.step();
    assert.deepEqual(after, [100, 101, "end"]);
});

test("of free things the first are given first", async () => {
    const pool = new Pool([0, 1, 2]);
    assert.deepEqual([await pool.take(), await pool.take(), await pool.take()], [0, 1, 2]);
    for (const one of [2, 0, 1]) pool.give(one);
    assert.deepEqual([await pool.take(), await pool.take(), await pool.take()], [0, 1, 2]);
});

test("metrics are what a hand counts", () => {
    let now = 0;
    const metrics = new Metrics("m", () => 1, () => now), first = [];
    const one = metrics.arrived(7, () => first.push("one")), two = metrics.arrived(3);
    now = 15; one.token();      // to the first: 15 ms
    now = 20; one.token();      // a gap of 5 ms
    now = 20.5; one.token();    // one of 0.5 ms
    now = 30; one.finished("length");
    now = 40; two.finished("abort");
    metrics.arrived(1);
    metrics.arrived(1);
    assert.deepEqual([one.usage(), two.usage().completion_tokens, first], [{prompt_tokens: 7, completion_tokens: 3, total_tokens: 10}, 0, ["one"]]);
    const value = (name) => Number(metrics.text().split("\n").find((line) => line.startsWith(`${name} `))?.split(" ").at(-1));
    const label = '{model_name="m"}';
    for (const [name, wanted] of [["num_requests_running", 1], ["num_requests_waiting", 1], ["prompt_tokens_total", 12], ["generation_tokens_total", 3],
        ["time_to_first_token_seconds_sum", .015], ["time_to_first_token_seconds_count", 1], ["inter_token_latency_seconds_count", 2],
        ["e2e_request_latency_seconds_sum", .03], ["e2e_request_latency_seconds_count", 1]])
        assert.equal(value(`vllm:${name}${label}`), wanted, name);
    assert.ok(Math.abs(value(`vllm:inter_token_latency_seconds_sum${label}`) - .0055) < 1e-12);
    const bucket = (name, le) => value(`vllm:${name}_bucket{model_name="m",le="${le}"}`);
    assert.deepEqual(["0.01", "0.02", "10", "+Inf"].map((le) => bucket("time_to_first_token_seconds", le)), [0, 1, 1, 1]);
    assert.deepEqual(["0.001", "0.002", "0.005", "+Inf"].map((le) => bucket("inter_token_latency_seconds", le)), [1, 1, 2, 2]);
    assert.deepEqual(["stop", "length", "abort"].map((r) => value(`vllm:request_success_total{model_name="m",finished_reason="${r}"}`)), [0, 1, 1]);
});

test("metrics are Prometheus' text: a type before its samples, each name once, a newline at the end", () => {
    const text = new Metrics("m").text(), types = new Map();
    assert.ok(text.endsWith("\n"));
    for (const line of text.trimEnd().split("\n")) {
        const type = line.match(/^# TYPE (\S+) (counter|gauge|histogram)$/);
        if (type) {
            assert.ok(!types.has(type[1]));
            types.set(type[1], type[2]);
            continue;
        }
        const [, name] = line.match(/^([a-z0-9:_]+)\{[a-z_]+="[^"]*"(?:,[a-z_]+="[^"]*")*\} [\d.e+-]+$/) ?? [];
        assert.ok(types.has(name) || types.get(name?.replace(/_(bucket|sum|count)$/, "")) === "histogram", line);
    }
    // What dashboards made for vLLM ask for.
    assert.deepEqual([...types.keys()].map((name) => name.replace("vllm:", "")), ["num_requests_running", "num_requests_waiting", "prompt_tokens_total",
        "generation_tokens_total", "request_success_total", "time_to_first_token_seconds", "inter_token_latency_seconds", "e2e_request_latency_seconds"]);
});

test("text holds back no more than it must", () => {
    const bytes = (tokens) => Buffer.from(tokens).toString();
    const say = (stops, text) => {
        const out = new Text(bytes, stops), parts = [...Buffer.from(text)].map((token) => out.push(token));
        return [parts, out.end(), out.stopped];
    };
    assert.deepEqual(say([], "ab"), [["a", "b"], "", false]);
    assert.deepEqual(say(["aab"], "aaab"), [["", "", "a", ""], "", true]);   // the stop begins anew within itself
    assert.deepEqual(say(["ab", "abc"], "abc").slice(1), ["", true]);
    assert.deepEqual(say(["xyz"], "axy"), [["a", "", ""], "xy", false]);
    assert.deepEqual(say([], "\xff".repeat(1)).slice(0, 1), [["", "ÿ"]]);
    const broken = new Text(bytes, []);
    assert.deepEqual([0xf0, 0x9f, 0x98, 0xff].map((token) => broken.push(token)), ["", "", "", "\uFFFD\uFFFD"]);   // given up after four
    const words = new Text((tokens) => tokens.join(""), ["world"]);
    assert.deepEqual(["hello ", "a wor", "d wo", "rld!"].map((token) => words.push(token)), ["hello ", "a ", "word ", ""]);
    assert.deepEqual([words.end(), words.stopped], ["", true]);
});

async function daemon(t) {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "takt-"));
    const lines = [], sockets = [];
    const server = net.createServer((socket) => {
        sockets.push(socket);
        let text = "";
        socket.on("error", () => {}).on("data", (part) => {
            const whole = (text + part).split("\n");
            text = whole.pop();
            lines.push(...whole.map((line) => JSON.parse(line)));
        });
    });
    const listen = async () => { server.listen(path.join(folder, "requests")); await once(server, "listening"); };
    await listen();
    t.after(() => { for (const s of sockets) s.destroy(); server.close(); fs.rmSync(folder, {recursive: true}); });
    return {path: path.join(folder, "requests"), lines, sockets, server, listen};
}

test("the scheduler is told in lines of JSON, over one connection", async (t) => {
    const d = await daemon(t), tell = teller(d.path);
    tell("arrived", 'a "1"\n');
    tell("first_token", 'a "1"\n');
    tell("finished", 'a "1"\n');
    await until(() => d.lines.length === 3);
    assert.deepEqual(d.lines, ["arrived", "first_token", "finished"].map((event) => ({event, id: 'a "1"\n'})));
    assert.equal(d.sockets.length, 1);
});

test("a scheduler that goes is found again, and none does no harm", async (t) => {
    const d = await daemon(t), tell = teller(d.path);
    tell("arrived", "1");
    await until(() => d.lines.length === 1);
    d.sockets[0].destroy();
    d.server.close();
    await until(() => { tell("arrived", "lost"); return !fs.existsSync(d.path); });
    await d.listen();
    await until(() => { tell("arrived", "2"); return d.lines.some((line) => line.id === "2"); });
    for (const nowhere of [undefined, "", "/nowhere/requests"]) {
        const deaf = teller(nowhere);
        for (let i = 0; i < 100; i++) deaf("arrived", String(i));
    }
});

test("a scheduler that does not read costs no memory", async (t) => {
    const d = await daemon(t), tell = teller(d.path);
    tell("arrived", "0");
    await until(() => d.sockets.length === 1);
    d.sockets[0].pause();
    const before = process.memoryUsage().heapUsed;
    for (let i = 0; i < 200000; i++) tell("arrived", String(i));   // 7 MB of lines
    assert.ok(process.memoryUsage().heapUsed - before < 64e6);
    await new Promise((go) => setImmediate(go));
    d.sockets[0].resume();
    await until(() => { tell("finished", "last"); return d.lines.some((line) => line.id === "last"); });
    assert.ok(d.lines.length < 100000, `${d.lines.length} lines were kept`);
});
