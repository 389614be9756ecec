// The server's parts: the pool of sequences, the metrics' numbers worked out by hand, the lines to the scheduler.
import assert from "node:assert/strict";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import {once} from "node:events";
import test from "node:test";
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
