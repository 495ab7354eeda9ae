// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// What an incarnation of an async process has called in the place of being cancelled, when it is asked to stop.
struct StopSignal: Sendable {
    let incarnation: UInt32
    /// Nil once it was called, or is about to be.
    var call: (@Sendable () -> Void)?
}

extension LightProc {
    /// Has `call` called, once, in the place of cancelling the task, when an incarnation is asked to stop.
    ///
    /// On a worker, in the name of the process: it must not block, and a trap in it is the process's. The process then has the
    /// shutdown time; when that is over it is killed, which cancels it and gives what is left of it the same time again. A kill,
    /// a deadline and a trap cancel it at once, as ever. One signal an incarnation: the last that was given counts.
    ///
    /// - Returns: False when it was asked to stop before, or is over: nothing will be called, it is cancelled, or was.
    package func signalStop(of incarnation: UInt32, by call: @escaping @Sendable () -> Void) -> Bool {
        let (isTaken, former) = withSide { content -> (Bool, StopSignal?) in
            let state = self.state
            // Who asks sets the bit first, and then looks for the signal under this lock.
            guard state.incarnation == incarnation, state.phase == .active, !state.isStopRequested else {
                return (false, nil)
            }
            return (true, swap(&content.stopSignal, with: StopSignal(incarnation: incarnation, call: call)))
        }
        _ = former
        return isTaken
    }

    /// Tells an incarnation to stop, if it wants to be told. By the one who carries the order out.
    ///
    /// - Returns: Whether it was told, now or before; it is to be cancelled otherwise.
    func signalStop(to incarnation: UInt32) -> Bool {
        let signal = withSide { content -> StopSignal? in
            guard let signal = content.stopSignal, signal.incarnation == incarnation else { return nil }
            content.stopSignal?.call = nil
            return signal
        }
        guard let signal else { return false }
        signal.call?()
        return true
    }

    /// Whether an incarnation was told to stop in the place of being cancelled.
    func wasSignalled(_ incarnation: UInt32) -> Bool {
        guard let signal = existingSide?.content.withLock({ $0.stopSignal }) else { return false }
        return signal.incarnation == incarnation && signal.call == nil
    }
}
