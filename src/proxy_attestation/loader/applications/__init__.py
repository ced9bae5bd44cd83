"""What the loader terminates TLS for: a Wasm module, a child process, an address."""
