// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

#pragma once
#include <stdint.h>

/// Begins or ends the counting. Off at the start, so that timings do not pay for a counter that threads share.
void alc_setCounting(int isOn);
/// Blocks that the program asked the allocator for while counting was on.
int64_t alc_count(void);
