"""NumPy reference of the numeric contract: what every other part of the project is compared with.

Package map, in the order the data flows:

- `errors`: `SeedLMError`, one line for bad input
- `codecs`: what a codec tells everyone, one module per family, found by itself (`registry`)
- `recipes`: which codec for which kind of matrix
- `build`: `Config`, the one place where a build's widths, counts and limits come from
- `lfsr`: the shift register, its windows, V(s) and the XOR masks of the unrolled bank
- `packing`: words to the bytes of stored rows and back
- `rotation`: rows and vectors that are rotated
- `matrix`: `PackedMatrix`, a compressed weight matrix in memory
- `activations`: binary16 activations to groups of mantissas with a shared exponent
- `fp32`: the two roundings to binary32
- `product`: the exact matrix-vector product and `Prepared`, its fast repeated form
- `images`: the memory images that the accelerator reads and writes
- `files`: packed files, source tensors, NumPy vectors; atomic writing

Everything between the binary16 activations and the final roundings is exact integer arithmetic, so
nothing here has a tolerance. Modules need NumPy, safetensors and the standard library only.
"""
