"""Sentences to vectors: BERT's forward pass in numpy, the mean of the words, length one.

As sentence-transformers computes it (its folders 1_Pooling with the mean, 2_Normalize).
"""

import json
import pathlib
import threading

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

# More sentences at once need more memory, not less time.
BATCH = 16


class Encoder:
    def __init__(self, folder):
        folder = pathlib.Path(folder)
        config = json.loads((folder / "config.json").read_text())
        if config["model_type"] != "bert" or config["hidden_act"] != "gelu":
            raise ValueError(f"{folder} is no BERT with gelu, and nothing else is known here")
        self.layers = config["num_hidden_layers"]
        self.heads = config["num_attention_heads"]
        self.epsilon = config["layer_norm_eps"]
        self.dimensions = config["hidden_size"]
        self.weights = load_file(folder / "model.safetensors")
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        limits = folder / "sentence_bert_config.json"
        length = json.loads(limits.read_text())["max_seq_length"] if limits.exists() else config["max_position_embeddings"]
        self.tokenizer.enable_truncation(length)
        self.tokenizer.enable_padding()
        self.lock = threading.Lock()

    def encode(self, texts):
        """One row a text, float32, of length one; and how many tokens they were."""
        with self.lock:
            rows, tokens = [], 0
            for start in range(0, len(texts), BATCH):
                encodings = self.tokenizer.encode_batch(texts[start : start + BATCH])
                ids = np.array([encoding.ids for encoding in encodings])
                mask = np.array([encoding.attention_mask for encoding in encodings], dtype=np.float32)
                tokens += int(mask.sum())
                states = self.forward(ids, mask)
                summed = (states * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1)[:, None]
                rows.append(summed / np.linalg.norm(summed, axis=1, keepdims=True))
            return np.concatenate(rows), tokens

    def forward(self, ids, mask):
        weights = self.weights
        states = weights["embeddings.word_embeddings.weight"][ids]
        states = states + weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
        states = states + weights["embeddings.token_type_embeddings.weight"][0]
        states = self.norm(states, "embeddings.LayerNorm")
        hidden = (1 - mask[:, None, None, :]) * np.float32(-1e9)
        for number in range(self.layers):
            layer = f"encoder.layer.{number}."
            attended = self.attention(states, hidden, layer + "attention.self.")
            attended = self.linear(attended, layer + "attention.output.dense")
            states = self.norm(states + attended, layer + "attention.output.LayerNorm")
            inner = gelu(self.linear(states, layer + "intermediate.dense"))
            states = self.norm(states + self.linear(inner, layer + "output.dense"), layer + "output.LayerNorm")
        return states

    def attention(self, states, hidden, layer):
        count, length, width = states.shape
        query, key, value = (
            self.linear(states, layer + name).reshape(count, length, self.heads, -1).transpose(0, 2, 1, 3)
            for name in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 1, 3, 2) / np.float32((width // self.heads) ** 0.5) + hidden
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares = scores / scores.sum(axis=-1, keepdims=True)
        return (shares @ value).transpose(0, 2, 1, 3).reshape(count, length, width)

    def linear(self, states, name):
        return states @ self.weights[name + ".weight"].T + self.weights[name + ".bias"]

    def norm(self, states, name):
        centred = states - states.mean(axis=-1, keepdims=True)
        scale = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(self.epsilon))
        return centred / scale * self.weights[name + ".weight"] + self.weights[name + ".bias"]


def gelu(x):
    return x * np.float32(0.5) * (1 + erf(x / np.float32(2**0.5)))


def erf(x):
    # Abramowitz and Stegun 7.1.26: off by at most 1.5e-7, float32's own precision.
    positive = np.abs(x)
    t = 1 / (1 + np.float32(0.3275911) * positive)
    polynomial = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return np.sign(x) * (1 - polynomial * np.exp(-positive * positive))
