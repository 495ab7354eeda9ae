// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc

/// `withUnsafeContinuation`, whose order ThreadSanitizer sees: what comes before the resumption happens before what follows.
///
/// The runtime tells it so for a task that goes on as a job, but not for one whose continuation was resumed before the task
/// had come to wait for it. Without the sanitizer it costs a call of an empty function.
///
/// Inlined, as each async function that is called costs a switch of executors when it returns.
@inlinable @inline(__always)
nonisolated(nonsending) package func suspended<Value>(
    _ body: (UnsafeContinuation<Value, Never>) -> Void
) async -> Value {
    let value = await withUnsafeContinuation(body)
    noteResumed()
    return value
}

@usableFromInline
package func noteResumed() { crt_resumed() }
