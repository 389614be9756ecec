import {getLlama} from "node-llama-cpp";
const llama = await getLlama({gpu: "cuda", build: "never", debug: true});
console.log("gpu", llama.gpu);
const model = await llama.loadModel({modelPath: "/tmp/tiny.gguf", gpuLayers: "max"});
const ctx = await model.createContext({sequences: 4, contextSize: 2048, batchSize:512});
const seq = ctx.getSequence();
let t=Date.now(), n=0;
for await (const tok of seq.evaluate(model.tokenize("hello world this is a test"), {})) { if(++n>=60) break; }
console.log("60 tokens", Date.now()-t, "ms");
process.exit(0);
