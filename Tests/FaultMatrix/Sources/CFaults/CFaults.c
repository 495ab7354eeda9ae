#define _GNU_SOURCE
#include "CFaults.h"

#include <alloca.h>
#undef NDEBUG
#include <assert.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int faults_divide(int dividend, int divisor) {
    volatile int by = divisor;
    return dividend / by;
}

void faults_abort(void) { abort(); }
void faults_trap(void) { __builtin_trap(); }

void faults_breakpoint(void) { __builtin_debugtrap(); }

void faults_failAssertion(void) {
    volatile int one = 1;
    assert(one == 2);
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
void faults_runOnce(void (*initialiser)(void)) { pthread_once(&once, initialiser); }

void faults_freeTwice(void) {
    void *volatile block = malloc(64);
    free(block);
    free(block);
}

static void *blocks[16];
void faults_prepareBlocks(void) {
    // Volatile, or the compiler leaves both calls out, and `free` is bound by the loader when it is called later.
    void *volatile block = malloc(10);
    free(block);
    for (int i = 0; i < 16; i++) blocks[i] = malloc(3000);
}
void faults_freeBlock(void) {
    static int next;
    free(blocks[next++ % 16]);
    blocks[(next - 1) % 16] = NULL;
}

void faults_damageHeap(void) {
    for (int i = 0; i < 100; i++) {
        char *volatile block = malloc(2000);
        char *volatile next = malloc(2000);
        memset(block + 2000, 0x41, 64);
        free(next);
        free(block);
    }
}

int faults_readBehindFile(void) {
    int file = memfd_create("faults", MFD_CLOEXEC);
    if (file < 0) return 0;
    volatile char *page = mmap(NULL, 4096, PROT_READ, MAP_SHARED, file, 0);
    if (page == MAP_FAILED) return 0;
    return page[0];
}

__attribute__((noinline)) void faults_withRoom(size_t room, void (*body)(void)) {
    pthread_attr_t attributes;
    void *low = NULL;
    size_t size = 0;
    if (pthread_getattr_np(pthread_self(), &attributes) != 0) return;
    pthread_attr_getstack(&attributes, &low, &size);
    pthread_attr_destroy(&attributes);
    // The newest block of alloca's is where the stack ends now. The second is not touched: it moves the stack's end only.
    char *volatile here = alloca(16);
    size_t left = (size_t)(here - (char *)low);
    if (left > room) {
        char *volatile end = alloca(left - room);
        (void)end;
    }
    body();
}

#if defined(__x86_64__)
__asm__(".text\n.globl faults_loseTrail\n.type faults_loseTrail, @function\n"
        "faults_loseTrail:\n"
        "    push %rbp\n    xor %ebp, %ebp\n    sub $64, %rsp\n"
        "    call *%rdi\n"
        "    add $64, %rsp\n    pop %rbp\n    ret\n"
        ".size faults_loseTrail, . - faults_loseTrail\n");
#endif

FaultsSuit faults_suitThatIsNone(void) {
    volatile int none = 7;
    return (FaultsSuit)none;
}
