// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

package import Executor
import LightProc

extension WorkerPool {
    /// Shuts down, not on one of the few threads that all tests share: what it waits for may wait for another test.
    package func shutDownElsewhere(_ mode: ShutdownMode = .drain) async {
        await suspended { continuation in
            PlainThread(name: "shutdown") {
                self.shutdown(mode)
                continuation.resume()
            }.detach()
        }
    }
}
