"""vLLM generates from a tiny Llama of dummy weights. Arguments: a folder for its configuration; tokens; its part of the memory."""
import os
import sys

from transformers import LlamaConfig

# In one process: its own would outlive a test that is killed.
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
from vllm import LLM, SamplingParams  # noqa: E402  (reads the environment)

folder, n_tokens, part = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
LlamaConfig(vocab_size=512, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
            max_position_embeddings=256, architectures=["LlamaForCausalLM"], dtype="float16").save_pretrained(folder)
engine = LLM(model=folder, load_format="dummy", enforce_eager=True, skip_tokenizer_init=True, max_model_len=128,
             gpu_memory_utilization=part, max_num_seqs=4, dtype="float16")
wanted = SamplingParams(max_tokens=n_tokens, ignore_eos=True, temperature=0, detokenize=False)
for answer in engine.generate([{"prompt_token_ids": [1, 2, 3, 4]}] * 2, wanted, use_tqdm=False):
    print("tokens", len(answer.outputs[0].token_ids), flush=True)
