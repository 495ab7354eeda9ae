#include "CLightProc.h"

// In a place of its own, beside the thread's record: every send starts here, and one load less is one load less.
__thread crt_nodePool *crt_currentNodes __attribute__((tls_model("initial-exec")));

// The linker provides these two for a section whose name is an identifier.
extern const char __start_crt_slot[], __stop_crt_slot[];

// Not watched by sanitizers: their calls would lie outside of the section. The slot is one thread's alone.
__attribute__((noinline, section("crt_slot"), no_sanitize("thread", "address")))
uintptr_t crt_exchangeNext(crt_nodePool *nodes, uintptr_t item) {
    volatile uintptr_t *next = &nodes->next;
    uintptr_t before = *next;
    *next = item;
    return before;
}

// Here too: if what was kept is taken away, it is before or after this.
__attribute__((noinline, section("crt_slot"), no_sanitize("thread", "address")))
uintptr_t crt_exchangeNextForKept(crt_nodePool *nodes, uintptr_t process) {
    volatile uintptr_t *kept = &nodes->kept, *next = &nodes->next;
    if (*kept != process) return 1;
    *kept = 0;
    uintptr_t before = *next;
    *next = process;
    return before;
}

bool crt_isExchanging(uintptr_t address) {
    return address >= (uintptr_t)__start_crt_slot && address < (uintptr_t)__stop_crt_slot;
}
