// The numbers of an LLM server under vLLM's names, in Prometheus' text format.

const SECONDS = [.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10];
const REASONS = ["stop", "length", "abort"];

class Histogram {
    counts = new Array(SECONDS.length + 1).fill(0);
    sum = 0;

    add(seconds) {
        const i = SECONDS.findIndex((bound) => seconds <= bound);
        this.counts[i < 0 ? SECONDS.length : i]++;
        this.sum += seconds;
    }

    lines(name, label) {
        let total = 0;
        return [`# TYPE ${name} histogram`,
            ...this.counts.map((n, i) => `${name}_bucket{${label},le="${SECONDS[i] ?? "+Inf"}"} ${total += n}`),
            `${name}_sum{${label}} ${this.sum}`, `${name}_count{${label}} ${total}`];
    }
}

export class Metrics {
    open = 0;
    prompts = 0;
    generated = 0;
    done = Object.fromEntries(REASONS.map((reason) => [reason, 0]));
    first = new Histogram();
    gaps = new Histogram();
    whole = new Histogram();

    // waiting: how many have arrived and are not served yet. now: the time in ms.
    constructor(model, waiting = () => 0, now = () => performance.now()) { Object.assign(this, {model, waiting, now}); }

    // One request's own marks; its methods are called as things happen.
    arrived(promptTokens, onFirst = () => {}) {
        const start = this.now();
        let last = start, n = 0;
        this.open++;
        this.prompts += promptTokens;
        return {
            token: () => {
                const now = this.now();
                if (n === 0) onFirst();
                (n++ ? this.gaps : this.first).add((now - last) / 1000);
                last = now;
                this.generated++;
            },
            // What was broken off has no length that would say something.
            finished: (reason) => {
                this.open--;
                this.done[reason]++;
                if (reason !== "abort") this.whole.add((this.now() - start) / 1000);
            },
            usage: () => ({prompt_tokens: promptTokens, completion_tokens: n, total_tokens: promptTokens + n})
        };
    }

    text() {
        const label = `model_name="${this.model}"`, waiting = this.waiting();
        const one = (name, type, value) => [`# TYPE ${name} ${type}`, `${name}{${label}} ${value}`];
        return [...one("vllm:num_requests_running", "gauge", this.open - waiting), ...one("vllm:num_requests_waiting", "gauge", waiting),
            ...one("vllm:prompt_tokens_total", "counter", this.prompts), ...one("vllm:generation_tokens_total", "counter", this.generated),
            "# TYPE vllm:request_success_total counter",
            ...REASONS.map((reason) => `vllm:request_success_total{${label},finished_reason="${reason}"} ${this.done[reason]}`),
            ...this.first.lines("vllm:time_to_first_token_seconds", label), ...this.gaps.lines("vllm:inter_token_latency_seconds", label),
            ...this.whole.lines("vllm:e2e_request_latency_seconds", label), ""].join("\n");
    }
}
