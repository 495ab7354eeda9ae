// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// Monitors.
extension Bonds {
    /// Watches `target` for an incarnation of `proc`; tells at once if there is nothing to watch.
    static func monitor(
        _ target: LightProc,
        untilClosed: Bool,
        by proc: LightProc,
        _ incarnation: UInt32,
        _ map: DownMap?
    ) -> MonitorRef {
        let number = nextNumber()
        let ref = MonitorRef(number: number, process: target.id)
        let watch = Watch(target: target, ref: ref, name: target.name, map: map)
        let own = of(proc)
        let isSet = own.content.withLock { content in
            guard proc.isLiving(incarnation) else { return false }
            content.watched[number] = watch
            return true
        }
        // Of an incarnation that is over; and who watches itself learns nothing of its end.
        guard isSet, target !== proc else { return ref }
        let other = of(target)
        // Read under the lock: who decides the end afterwards comes to the lock, too, and finds the watcher.
        let isThere = other.content.withLock { content in
            let watched =
                untilClosed
                ? content.isClosed || target.isClosed ? nil : Watcher.untilClosed : target.presentIncarnation
            guard let watched else { return false }
            content.watchers[number] = Watcher(proc: proc, incarnation: watched)
            return true
        }
        if !isThere {
            own.fire(number, .noProcess, to: proc)
        } else if own.content.withLock({ $0.watched[number] == nil }) {
            // The watching incarnation ended meanwhile, perhaps before the other knew of it.
            other.drop(number)
        }
        return ref
    }

    /// Ends a monitor of this process.
    ///
    /// - Parameter flush: Whether its message is withdrawn if that is in the mailbox already.
    /// - Returns: Whether it was waiting: no message of it was sent.
    func demonitor(_ ref: MonitorRef, flush: Bool) -> Bool {
        let watch = content.withLock { content -> Watch? in
            guard let watch = content.watched[ref.number], watch.reason == nil || flush else { return nil }
            return content.watched.removeValue(forKey: ref.number)
        }
        guard let watch, watch.reason == nil else { return false }
        if let target = watch.target { Bonds.existing(of: target)?.drop(ref.number) }
        return true
    }

    /// The process that this one watches has ended. Any thread.
    func fire(_ number: UInt64, _ reason: ExitReason, to proc: LightProc) {
        let isDue = content.withLock { content in
            // Nil when the monitor was taken back, or its process has ended.
            guard let watch = content.watched[number], watch.reason == nil else { return false }
            content.watched[number]?.reason = reason
            return true
        }
        guard isDue else { return }
        proc.deliver(
            Notice(
                look: { proc in Bonds.existing(of: proc)?.lookAtDown(number) },
                take: { proc in Bonds.existing(of: proc)?.takeDown(number) }
            )
        )
    }

    /// Forgets who watches this process.
    func drop(_ number: UInt64) { content.withLock { _ = $0.watchers.removeValue(forKey: number) } }
}
