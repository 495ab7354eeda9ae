// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

#define _GNU_SOURCE
#include "CFortGuard.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int fort_makeMemory(size_t byteCount) {
    int descriptor = memfd_create("bastion-record", MFD_CLOEXEC);
    if (descriptor >= 0 && ftruncate(descriptor, (off_t)byteCount) != 0) {
        int error = errno;
        close(descriptor);
        errno = error;
        return -1;
    }
    return descriptor;
}

int fort_makePair(int ends[2]) { return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends); }

static sigset_t formerMask;

// Comes with the signal that tells a program that it was replaced: "next".
enum { fort_isReplaced = 0x6e657874 };

int fort_takeSignals(void) {
    if (sigprocmask(SIG_SETMASK, NULL, &formerMask) != 0) return -1;
    // Not by the library's functions: they leave out two signals of its own, 32 and 33, with which anybody could end the guard. It has one
    // thread, and needs neither.
    uint64_t all = ~UINT64_C(0);
    if (syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, sizeof all) != 0) return -1;
    return (int)syscall(SYS_signalfd4, -1, &all, sizeof all, SFD_CLOEXEC | SFD_NONBLOCK);
}

bool fort_nextSignal(int descriptor, int *signal, bool *isFromTerminal) {
    struct signalfd_siginfo info;
    if (read(descriptor, &info, sizeof info) != sizeof info) return false;
    *signal = (int)info.ssi_signo;
    *isFromTerminal = info.ssi_code == SI_KERNEL;
    return true;
}

bool fort_send(int socket, const void *bytes, size_t count, int descriptor) {
    struct iovec part = {.iov_base = (void *)bytes, .iov_len = count};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (descriptor >= 0) {
        memset(&control, 0, sizeof control);
        message.msg_control = &control;
        message.msg_controllen = sizeof control.bytes;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
    }
    ssize_t sent;
    do sent = sendmsg(socket, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)count;
}

ssize_t fort_receive(int socket, void *bytes, size_t count, int *descriptor, bool waits) {
    struct iovec part = {.iov_base = bytes, .iov_len = count};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.bytes};
    *descriptor = -1;
    ssize_t received;
    do received = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | (waits ? 0 : MSG_DONTWAIT));
    while (received < 0 && errno == EINTR);
    if (received < 0) return errno == EAGAIN ? -1 : 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header))
        if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
            memcpy(descriptor, CMSG_DATA(header), sizeof *descriptor);
    return received;
}

pid_t fort_start(const char *path, char *const *arguments, char *const *environment, const int *kept, int keptCount) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int error = posix_spawn_file_actions_init(&actions);
    if (error == 0) {
        // A descriptor that is duplicated to its own number is one that the new program gets.
        for (int i = 0; i < keptCount && error == 0; i++)
            if (kept[i] >= 0) error = posix_spawn_file_actions_adddup2(&actions, kept[i], kept[i]);
        if (error == 0) error = posix_spawnattr_init(&attributes);
        if (error == 0) {
            sigset_t all, mask = formerMask;
            sigfillset(&all);
            // Until the program knows what to do about them they wait.
            static const int taken[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR2};
            for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++) sigaddset(&mask, taken[i]);
            posix_spawnattr_setsigmask(&attributes, &mask);
            posix_spawnattr_setsigdefault(&attributes, &all);
            posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
            pid_t child = 0;
            error = posix_spawn(&child, path, &actions, &attributes, arguments, environment);
            posix_spawnattr_destroy(&attributes);
            if (error == 0) {
                posix_spawn_file_actions_destroy(&actions);
                return child;
            }
        }
        posix_spawn_file_actions_destroy(&actions);
    }
    errno = error;
    return 0;
}

bool fort_dieWithParent(pid_t parent) {
    // The parent may have died before the kernel was told: then this process has another one by now.
    return prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent;
}

bool fort_isMainThread(void) { return syscall(SYS_gettid) == getpid(); }

// Of libdispatch: how a run loop serves the main queue. Not in its headers; Foundation's run loop uses the same.
extern int _dispatch_get_main_queue_handle_4CF(void) __attribute__((weak));
extern void _dispatch_main_queue_callback_4CF(void *message) __attribute__((weak));

void fort_serveMainQueue(void) {
    if (!_dispatch_get_main_queue_handle_4CF || !_dispatch_main_queue_callback_4CF) return;
    struct pollfd entry = {.fd = _dispatch_get_main_queue_handle_4CF(), .events = POLLIN};
    if (entry.fd < 0) return;
    while (true) {
        if (poll(&entry, 1, -1) <= 0) continue;
        uint64_t count;
        // An eventfd that does not block: how often somebody has put something in.
        if (read(entry.fd, &count, sizeof count) < 0 && errno != EAGAIN && errno != EINTR) return;
        _dispatch_main_queue_callback_4CF(NULL);
    }
}

bool fort_retire(pid_t child) {
    return sigqueue(child, SIGTERM, (union sigval){.sival_int = fort_isReplaced}) == 0;
}

int fort_awaitSignal(const int *signals, int count, pid_t *sender, bool *isReplaced) {
    sigset_t set;
    sigemptyset(&set);
    for (int i = 0; i < count; i++) sigaddset(&set, signals[i]);
    siginfo_t info;
    int signal;
    do signal = sigwaitinfo(&set, &info);
    while (signal < 0);
    *sender = info.si_code <= 0 ? info.si_pid : 0;
    *isReplaced = signal == SIGTERM && info.si_code == SI_QUEUE && info.si_value.sival_int == fort_isReplaced;
    return signal;
}

void fort_ignoreBrokenPipes(void) {
    struct sigaction action;
    if (sigaction(SIGPIPE, NULL, &action) != 0 || (action.sa_flags & SA_SIGINFO) || action.sa_handler != SIG_DFL) return;
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, NULL);
}

void fort_awaitHangup(int socket) {
    struct pollfd entry = {.fd = socket, .events = POLLRDHUP};
    while (poll(&entry, 1, -1) < 0 || !(entry.revents & (POLLHUP | POLLRDHUP | POLLERR))) continue;
}

pid_t fort_collect(int *status) {
    pid_t child;
    do child = waitpid(-1, status, WNOHANG);
    while (child < 0 && errno == EINTR);
    return child > 0 ? child : 0;
}

int fort_await(const int *descriptors, int count, int milliseconds, bool *ready) {
    struct pollfd entries[16];
    if (count > 16) count = 16;
    for (int i = 0; i < count; i++) entries[i] = (struct pollfd){.fd = descriptors[i], .events = POLLIN};
    int found = poll(entries, (nfds_t)count, milliseconds);
    for (int i = 0; i < count; i++) ready[i] = found > 0 && entries[i].revents != 0;
    return found;
}
