// Traps while the dynamic loader runs it, under the loader's lock.
__attribute__((constructor)) static void trapAtLoad(void) { __builtin_trap(); }
