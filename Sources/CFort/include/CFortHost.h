// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

// System calls about the machine around the program that Swift does not see, and signs of life in the record.
#ifndef CFORTHOST_H
#define CFORTHOST_H

#include <stdbool.h>
#include <stdint.h>

#include "CFort.h"

/// Adds a sign of life. Any thread.
void fort_addBeat(fort_record *record);

/// How many there were.
uint64_t fort_countBeats(fort_record *record);

/// How long the program may be without a sign of life, in nanoseconds; 0: nobody looks.
void fort_setHangTime(fort_record *record, uint64_t nanoseconds);
uint64_t fort_getHangTime(fort_record *record);

/// Opens a file of the kernel's pressure figures and asks to be told (by `poll` for POLLPRI) when tasks were stalled for so many
/// microseconds within a window of so many. Returns a descriptor; -1 and `errno` where the kernel refuses, or the file is none of its own.
int fort_openPressureTrigger(const char *path, uint64_t stallMicroseconds, uint64_t windowMicroseconds);

/// A descriptor that can be read when one of the files added to it was changed; -1 and `errno` if there can be none.
int fort_makeFileWatch(void);

/// Adds a file to such a descriptor. False and `errno` if it cannot be watched.
bool fort_watchFile(int watch, const char *path);

#endif
