// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import Glibc

/// A joinable thread for the runtime's own loops. Traps on it are not contained.
package final class PlainThread: @unchecked Sendable {
    // Sendable: written once in `init`, joined once by its owner.
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
        // EAGAIN: the limit of threads (RLIMIT_NPROC, cgroup pids.max) is reached. The program cannot work without it.
        precondition(status == 0, "cannot create the thread \(name): \(String(cString: strerror(status)))")
    }

    package func join() { pthread_join(handle, nil) }
}
