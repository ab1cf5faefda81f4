"""Models in GGUF files, as llama.cpp and its relatives have them, presented as what Hugging Face's files would hold.

- `header`: metadata and the places of tensors, every length checked
- `tensors`: tensors as `RawTensor`, quantised ones widened some rows at a time
- `architectures`: what each architecture's metadata and tensors are called, one module each
- `tokenizer`, `splits`: the tokenizer as tokenizer.json
- `model`: all of it as a `Source`
"""
