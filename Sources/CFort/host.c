// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

#define _GNU_SOURCE
#include "CFortHost.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/vfs.h>
#include <unistd.h>

// Relaxed: they publish nothing.
void fort_addBeat(fort_record *record) { atomic_fetch_add_explicit(&record->beats, 1, memory_order_relaxed); }

uint64_t fort_countBeats(fort_record *record) { return atomic_load_explicit(&record->beats, memory_order_relaxed); }

void fort_setHangTime(fort_record *record, uint64_t nanoseconds) {
    atomic_store_explicit(&record->hangTime, nanoseconds, memory_order_relaxed);
}

uint64_t fort_getHangTime(fort_record *record) { return atomic_load_explicit(&record->hangTime, memory_order_relaxed); }

int fort_openPressureTrigger(const char *path, uint64_t stallMicroseconds, uint64_t windowMicroseconds) {
    int descriptor = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (descriptor < 0) return -1;
    struct statfs system;
    char text[64];
    int length = snprintf(text, sizeof text, "some %llu %llu", (unsigned long long)stallMicroseconds,
                          (unsigned long long)windowMicroseconds);
    int error = 0;
    if (fstatfs(descriptor, &system) != 0) {
        error = errno;
    } else if (system.f_type != CGROUP2_SUPER_MAGIC && system.f_type != PROC_SUPER_MAGIC) {
        // A file that somebody made up: it would be overwritten, and never tell.
        error = ENOTSUP;
    } else if (write(descriptor, text, (size_t)length + 1) < 0) {
        error = errno;
    }
    if (error == 0) return descriptor;
    close(descriptor);
    errno = error;
    return -1;
}

int fort_makeFileWatch(void) { return inotify_init1(IN_CLOEXEC | IN_NONBLOCK); }

bool fort_watchFile(int watch, const char *path) { return inotify_add_watch(watch, path, IN_MODIFY) >= 0; }
