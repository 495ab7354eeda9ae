// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Testing

/// Which sanitizer watches the program that the tests are part of.
enum Sanitizer {
    /// ThreadSanitizer: see `scripts/sanitize.sh`.
    static let isThread = dlsym(nil, "__tsan_init") != nil
    /// AddressSanitizer.
    static let isAddress = dlsym(nil, "__asan_init") != nil
    static var isAny: Bool { isThread || isAddress }
}

extension Trait where Self == ConditionTrait {
    /// For tests of functions of the C library: sanitizers put their own in the place of many of them, the allocator's
    /// first of all, which reports damage of the heap and ends the program by itself.
    static var withTheFunctionsOfTheCLibrary: Self {
        .disabled(if: Sanitizer.isAny, "the sanitizer's functions are in the place of the C library's")
    }
}
