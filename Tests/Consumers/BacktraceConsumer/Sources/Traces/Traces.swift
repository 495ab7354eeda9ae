// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Runtime  // the toolchain's

/// Returns how many frames the toolchain's backtrace of the calling thread has.
public func framesHere() throws -> Int {
    try Backtrace.capture().frames.reduce(into: 0) { count, _ in count += 1 }
}
