"""A Llama of random weights: one forward of a prompt, then a few decode steps with the cache. Prints shapes."""
import torch
from transformers import LlamaConfig, LlamaForCausalLM

model = LlamaForCausalLM(LlamaConfig(vocab_size=512, hidden_size=128, intermediate_size=256, num_hidden_layers=4,
                                     num_attention_heads=4, num_key_value_heads=4)).half().cuda().eval()
with torch.no_grad():
    out = model(torch.randint(0, 512, (1, 16), device="cuda"), use_cache=True)
    print(tuple(out.logits.shape))
    for _ in range(8):
        token = out.logits[:, -1].argmax(-1, keepdim=True)
        out = model(token, past_key_values=out.past_key_values, use_cache=True)
        out.logits.cpu()
print(out.past_key_values.get_seq_length())
