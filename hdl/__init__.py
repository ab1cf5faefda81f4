"""The accelerator in Amaranth: one component per file, joined in `hdl.top`."""
