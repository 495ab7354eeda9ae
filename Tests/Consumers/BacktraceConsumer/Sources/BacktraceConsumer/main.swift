// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Runtime  // ours, compiled as BastionRuntime
import Traces

func check() async throws {
    let frames = try framesHere()
    precondition(frames > 0, "the toolchain's backtrace has no frames")

    // The one module's backtrace is taken in a process of the other.
    let inside = bastion.executor.spawn { try framesHere() }
    guard case .finished(let framesInside) = await inside.outcome(), framesInside > 0 else {
        fatalError("the toolchain's backtrace has no frames in a process")
    }
    let trapping = bastion.executor.spawn { () -> Int in fatalError("contained") }
    guard case .failed(.trap(let report)) = await trapping.outcome() else { fatalError("a trap has another outcome") }
    precondition(!report.backtrace.isEmpty, "our report has no frames")
}

try await check()
print("ok BacktraceConsumer")
