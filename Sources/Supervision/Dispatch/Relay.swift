// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Logging

/// A process that hands what it is sent to a closure of the user's, one at a time, in order.
///
/// So that the closure runs in the name of nobody else: if it traps what it was given is lost, and the relay goes on.
final class Relay<Input: Sendable>: ProcObserver {
    let proc: LightProc
    private let host: RelayHost

    init(_ name: String, on host: RelayHost, _ action: @escaping @Sendable (Input) -> Void) {
        self.host = host
        proc = LightProc.reactive(on: host.executor) { RelayBody(action: action) }
        proc.join(host.domain)
        proc.prepare(name: name, stack: nil, observer: self, shutdownTime: .zero)
        proc.restart()
    }

    var ref: ProcRef<Input> { ProcRef(proc) }

    func send(_ input: Input) { ref.tell(input) }

    /// What waits is lost.
    func stop() { proc.stop() }

    func procEnded(_ proc: LightProc, reason: ExitReason) {
        guard case .trap = reason else { return proc.close() }
        // The log's handler is the user's.
        LightProc.runOnce(on: host.executor) { [log = host.log] in
            log.warning("a closure of the program trapped: \(reason)", metadata: ["in": "\(proc)"])
        }
        proc.restart()
    }

    func procDiscarded(messageOf type: Any.Type, by proc: LightProc) {}
}

/// What a relay needs of its system, without holding that.
struct RelayHost: Sendable {
    let executor: any ProcExecutor
    let domain: UInt32
    let log: Logger
}

extension BastionSystem {
    var relays: RelayHost { RelayHost(executor: executor, domain: domain, log: log) }
}

private struct RelayBody<Input: Sendable>: ReactiveBody {
    let action: @Sendable (Input) -> Void
    mutating func receive(_ message: consuming Input, on proc: LightProc) { action(message) }
}
