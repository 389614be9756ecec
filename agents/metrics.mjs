// The numbers of an LLM server under vLLM's names, in Prometheus' text format.

const SECONDS = [.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10];

class Histogram {
    counts = new Array(SECONDS.length + 1).fill(0);
    sum = 0;

    add(seconds) {
        const i = SECONDS.findIndex((bound) => seconds <= bound);
        this.counts[i < 0 ? SECONDS.length : i]++;
        this.sum += seconds;
    }

    text(name) {
        let total = 0;
        const rows = this.counts.map((n, i) => `${name}_bucket{le="${SECONDS[i] ?? "+Inf"}"} ${total += n}`);
        return [`# TYPE ${name} histogram`, ...rows, `${name}_sum ${this.sum}`, `${name}_count ${total}`].join("\n");
    }
}

export class Metrics {
    running = 0;
    prompts = 0;
    generated = 0;
    done = 0;
    first = new Histogram();
    gaps = new Histogram();
    whole = new Histogram();

    constructor(model) { this.model = model; }

    // One request's own marks; its methods are called as things happen.
    arrived() {
        const start = performance.now();
        let last = start, n = 0, promptTokens = 0;
        this.running++;
        return {
            prompt: (tokens) => { promptTokens = tokens; this.prompts += tokens; },
            token: () => {
                const now = performance.now();
                (n++ ? this.gaps : this.first).add((now - last) / 1000);
                last = now;
                this.generated++;
            },
            finished: () => { this.running--; this.done++; this.whole.add((performance.now() - start) / 1000); },
            usage: () => ({prompt_tokens: promptTokens, completion_tokens: n, total_tokens: promptTokens + n})
        };
    }

    text() {
        return [`vllm:num_requests_running ${this.running}`, `vllm:num_requests_waiting 0`,
            `vllm:prompt_tokens_total ${this.prompts}`, `vllm:generation_tokens_total ${this.generated}`,
            `vllm:request_success_total ${this.done}`, this.first.text("vllm:time_to_first_token_seconds"),
            this.gaps.text("vllm:inter_token_latency_seconds"), this.whole.text("vllm:e2e_request_latency_seconds"), ""].join("\n");
    }
}
