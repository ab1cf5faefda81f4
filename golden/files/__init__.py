"""Files: safetensors models and packed files, NumPy vectors, atomic writing, the cache.

Everything is read lazily: opening a file reads its header, the data of a tensor is a memory map until
it is used. Every complaint is one line that names the file, the tensor and what was expected.

- `atomic`: files and folders that appear whole or not at all
- `tensors`: safetensors files
- `packed`: the packed format
- `sources`: where a model's weights come from: one file, shards with an index, a folder
- `quantised`: how a model shows that another program has quantised it
- `json_files`: JSON objects in files that others wrote
- `npy`: vectors as NumPy files
- `cache`: build results by the hash of what went into them
"""
