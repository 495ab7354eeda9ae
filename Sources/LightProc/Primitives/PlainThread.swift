// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import Glibc

/// A joinable thread for the runtime's own loops. Traps on it are not contained.
package final class PlainThread: @unchecked Sendable {
    // Sendable: written once in `init`, joined or detached once by its owner.
    private var handle = pthread_t()

    private final class Start {
        let name: String
        let body: @Sendable () -> Void
        init(_ name: String, _ body: @escaping @Sendable () -> Void) {
            self.name = name
            self.body = body
        }
    }

    package init(name: String, _ body: @escaping @Sendable () -> Void) {
        let status = create(name, body)
        // EAGAIN: the limit of threads (RLIMIT_NPROC, cgroup pids.max) is reached. The program cannot work without it.
        precondition(status == 0, "cannot create the thread \(name): \(String(cString: strerror(status)))")
    }

    /// Nil where the limit of threads is reached.
    package init?(ifPossible name: String, _ body: @escaping @Sendable () -> Void) {
        if create(name, body) != 0 { return nil }
    }

    private func create(_ name: String, _ body: @escaping @Sendable () -> Void) -> Int32 {
        let start = Unmanaged.passRetained(Start(name, body))
        let status = pthread_create(
            &handle,
            nil,
            { argument in
                let start = Unmanaged<Start>.fromOpaque(argument!).takeRetainedValue()
                crt_nameThread(start.name)
                start.body()
                return nil
            },
            start.toOpaque()
        )
        if status != 0 { start.release() }
        return status
    }

    package func join() { pthread_join(handle, nil) }

    /// It will not be joined: the system frees it when it ends.
    package func detach() { pthread_detach(handle) }
}
