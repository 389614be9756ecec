// A few things that many want: each to one at a time, first come, first served; of the free ones the first as they were
// given. Who gives up waiting is forgotten.
export class Pool {
    #things;
    #free;
    #waiting = [];

    constructor(things) {
        this.#things = [...things];
        this.#free = [...things];
    }

    get waiting() { return this.#waiting.length; }
    get free() { return this.#free.length; }

    async take(signal) {
        signal?.throwIfAborted();
        if (this.#free.length) return this.#free.shift();
        return new Promise((resolve, reject) => {
            const one = {resolve: (thing) => { signal?.removeEventListener("abort", leave); resolve(thing); }};
            const leave = () => {
                this.#waiting.splice(this.#waiting.indexOf(one), 1);
                reject(signal.reason);
            };
            signal?.addEventListener("abort", leave, {once: true});
            this.#waiting.push(one);
        });
    }

    give(thing) {
        const next = this.#waiting.shift();
        if (next) next.resolve(thing);
        else this.#free = this.#things.filter((one) => one === thing || this.#free.includes(one));
    }
}
