"""NumPy reference of the numeric contract: what every other part of the project is compared with.

Package map, in the order the data flows:

- `params`: `Codec` and `Config`, the one place where widths, counts and limits come from
- `errors`: `SeedLMError`, one line for bad input
- `lfsr`: the shift register, its windows, V(s) and the XOR masks of the unrolled bank
- `words`: block words: fields, packing, the integer weights N
- `matrix`: `PackedMatrix`, a compressed weight matrix in memory
- `activations`: binary16 activations to groups of mantissas with a shared exponent
- `fp32`: the two roundings to binary32
- `product`: the exact matrix-vector product and `Prepared`, its fast repeated form
- `images`: the memory images that the accelerator reads and writes
- `files`: packed files, source tensors, NumPy vectors; atomic writing

Everything between the binary16 activations and the final roundings is exact integer arithmetic, so
nothing here has a tolerance. Modules need NumPy, safetensors and the standard library only.
"""
