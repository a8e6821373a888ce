"""The models of `transformer_graphs` in PyTorch, as one would write them there to be fast."""

from __future__ import annotations

from typing import Any

from tilewright.tools.bench.transformer_graphs import Decoder, Encoder


def encoder_module(sizes: Encoder, dtype: Any, device: str = "cuda") -> Any:
    """hidden of (input_ids, attention_mask)."""
    import torch
    from torch.nn import functional as f

    class Model(torch.nn.Module):  # type: ignore[misc]  # without stubs, a base is Any
        def __init__(self) -> None:
            super().__init__()
            for name, array in sizes.weights().items():
                tensor = torch.from_numpy(array).to(device, dtype)
                # products in the order that torch.nn.Linear keeps
                tensor = tensor.T.contiguous() if _is_product(name, array) else tensor
                self.register_buffer(name, tensor)

        def _linear(self, x: Any, name: str) -> Any:
            return f.linear(x, getattr(self, name), getattr(self, f"{name}_bias"))

        def _norm(self, x: Any, name: str) -> Any:
            weight, bias = getattr(self, name), getattr(self, f"{name}_bias")
            return f.layer_norm(x, (sizes.width,), weight, bias, 1e-12)

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            batch, seq = input_ids.shape
            x = self._norm(f.embedding(input_ids, self.words) + self.positions[:seq], "norm")
            mask = attention_mask.bool()[:, None, None, :]
            split = (batch, seq, sizes.heads, -1)
            for i in range(sizes.layers):
                q, k, v = (
                    self._linear(x, f"{part}{i}").view(split).transpose(1, 2)
                    for part in ("query", "key", "value")
                )
                mixed = f.scaled_dot_product_attention(q, k, v, attn_mask=mask)
                mixed = mixed.transpose(1, 2).reshape(batch, seq, sizes.width)
                x = self._norm(self._linear(mixed, f"mixed{i}") + x, f"first{i}")
                inner = f.gelu(self._linear(x, f"inner{i}"))
                x = self._norm(self._linear(inner, f"outer{i}") + x, f"second{i}")
            return x

    return Model().eval()


def decoder_module(sizes: Decoder, dtype: Any, past: bool, device: str = "cuda") -> Any:
    """logits of (input_ids); with `past` (input_ids, past_k, past_v), and the longer caches."""
    import torch
    from torch.nn import functional as f

    class Model(torch.nn.Module):  # type: ignore[misc]  # without stubs, a base is Any
        def __init__(self) -> None:
            super().__init__()
            for name, array in sizes.weights().items():
                tensor = torch.from_numpy(array).to(device, dtype)
                tensor = tensor.T.contiguous() if _is_product(name, array) else tensor
                self.register_buffer(name, tensor)

        def _linear(self, x: Any, name: str) -> Any:
            return f.linear(x, getattr(self, name))

        def _norm(self, x: Any, name: str) -> Any:
            return f.rms_norm(x, (sizes.width,), getattr(self, name), 1e-6)

        def _rotated(self, x: Any, begin: int, count: int) -> Any:
            cos, sin = self.cos[begin : begin + count], self.sin[begin : begin + count]
            a, b = x.chunk(2, -1)
            return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)

        def forward(self, input_ids: Any, past_k: Any = None, past_v: Any = None) -> Any:
            batch, seq = input_ids.shape
            begin = past_k.shape[3] if past else 0
            x = f.embedding(input_ids, self.words)
            keys, values = [], []
            split = (batch, seq, -1, sizes.size)
            for i in range(sizes.layers):
                rows = self._norm(x, f"first{i}")
                q, k, v = (
                    self._linear(rows, f"{part}{i}").view(split).transpose(1, 2)
                    for part in ("query", "key", "value")
                )
                q, k = self._rotated(q, begin, seq), self._rotated(k, begin, seq)
                if past:
                    k, v = torch.cat((past_k[i], k), 2), torch.cat((past_v[i], v), 2)
                    keys.append(k)
                    values.append(v)
                mixed = f.scaled_dot_product_attention(q, k, v, is_causal=not past, enable_gqa=True)
                mixed = mixed.transpose(1, 2).reshape(batch, seq, sizes.width)
                x = x + self._linear(mixed, f"mixed{i}")
                rows = self._norm(x, f"second{i}")
                inner = f.silu(self._linear(rows, f"gate{i}")) * self._linear(rows, f"up{i}")
                x = x + self._linear(inner, f"down{i}")
            logits = f.linear(self._norm(x, "last"), self.words)
            return (logits, torch.stack(keys), torch.stack(values)) if past else logits

    return Model().eval()


def _is_product(name: str, array: Any) -> bool:
    return array.ndim == 2 and name not in ("words", "positions", "cos", "sin")
