#!/usr/bin/env python3
"""Makes a tiny Llama with random weights as a GGUF file, for engines that run where the answer does not matter.

Every byte is a token of its own, so a prompt of n ASCII characters has n tokens. The same seed gives the same file.
The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

Usage: make_gguf.py FILE
"""
import random
import struct
import sys

LAYERS, WIDTH, HEADS, INNER, CONTEXT = 4, 128, 2, 256, 8192
Q8_0, F32 = 8, 0
UINT32, FLOAT32, STRING, ARRAY, INT32 = 4, 6, 8, 9, 5


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def entry(key, kind, value):
    head = text(key) + struct.pack("<I", kind)
    if kind == UINT32:
        return head + struct.pack("<I", value)
    if kind == FLOAT32:
        return head + struct.pack("<f", value)
    if kind == STRING:
        return head + text(value)
    of, items = value
    pack = {STRING: text, INT32: lambda v: struct.pack("<i", v), FLOAT32: lambda v: struct.pack("<f", v)}[of]
    return head + struct.pack("<IQ", of, len(items)) + b"".join(map(pack, items))


def vocabulary():
    """SentencePiece style: three control tokens, then one byte token each."""
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    kinds = [2, 3, 3] + [6] * 256
    return tokens, kinds


def tensors(n_tokens):
    yield "token_embd.weight", (WIDTH, n_tokens), Q8_0
    for i in range(LAYERS):
        yield f"blk.{i}.attn_norm.weight", (WIDTH,), F32
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            yield f"blk.{i}.{name}.weight", (WIDTH, WIDTH), Q8_0
        yield f"blk.{i}.ffn_norm.weight", (WIDTH,), F32
        yield f"blk.{i}.ffn_gate.weight", (WIDTH, INNER), Q8_0
        yield f"blk.{i}.ffn_up.weight", (WIDTH, INNER), Q8_0
        yield f"blk.{i}.ffn_down.weight", (INNER, WIDTH), Q8_0
    yield "output_norm.weight", (WIDTH,), F32
    yield "output.weight", (WIDTH, n_tokens), Q8_0


def data_of(shape, kind, seeded):
    n = 1
    for d in shape:
        n *= d
    if kind == F32:
        return struct.pack(f"<{n}f", *[1.0] * n)
    blocks = []   # 32 weights: a half-precision scale and 32 signed bytes
    for _ in range(n // 32):
        blocks.append(struct.pack("<e", 0.001) + bytes(seeded.randrange(256) for _ in range(32)))
    return b"".join(blocks)


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    tokens, kinds = vocabulary()
    meta = [
        entry("general.architecture", STRING, "llama"),
        entry("general.name", STRING, "takt-tiny"),
        entry("general.file_type", UINT32, 7),
        entry("llama.block_count", UINT32, LAYERS),
        entry("llama.context_length", UINT32, CONTEXT),
        entry("llama.embedding_length", UINT32, WIDTH),
        entry("llama.feed_forward_length", UINT32, INNER),
        entry("llama.attention.head_count", UINT32, HEADS),
        entry("llama.attention.head_count_kv", UINT32, HEADS),
        entry("llama.attention.layer_norm_rms_epsilon", FLOAT32, 1e-5),
        entry("llama.rope.dimension_count", UINT32, WIDTH // HEADS),
        entry("llama.vocab_size", UINT32, len(tokens)),
        entry("tokenizer.ggml.model", STRING, "llama"),
        entry("tokenizer.ggml.tokens", ARRAY, (STRING, tokens)),
        entry("tokenizer.ggml.scores", ARRAY, (FLOAT32, [0.0] * len(tokens))),
        entry("tokenizer.ggml.token_type", ARRAY, (INT32, kinds)),
        entry("tokenizer.ggml.bos_token_id", UINT32, 1),
        entry("tokenizer.ggml.eos_token_id", UINT32, 2),
        entry("tokenizer.ggml.unknown_token_id", UINT32, 0),
    ]
    seeded = random.Random(1)
    infos, body = b"", b""
    listed = list(tensors(len(tokens)))
    for name, shape, kind in listed:
        infos += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, len(body))
        body += data_of(shape, kind, seeded)
        body += b"\0" * (-len(body) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(listed), len(meta)) + b"".join(meta) + infos
    with open(sys.argv[1], "wb") as out:
        out.write(head + b"\0" * (-len(head) % 32) + body)


if __name__ == "__main__":
    main()
