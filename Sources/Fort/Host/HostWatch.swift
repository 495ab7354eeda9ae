// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CFort
import Executor
import LightProc
import Supervision

/// What the program's surroundings are asked for while it runs: memory pressure, and signs of life for who waits for them.
enum HostWatch {
    static func start(_ system: BastionSystem, _ state: ProgramState, _ options: FortOptions) {
        startHeart(system, state, options)
        extendStops(system.executor, options.stopDeadline)
        watchMemory(system, state)
    }

    /// Where nobody waits for signs of life there are none.
    private static func startHeart(_ system: BastionSystem, _ state: ProgramState, _ options: FortOptions) {
        let hangTime = state.link == nil ? nil : options.hangTime
        let watchdogTime = state.link == nil ? ServiceManager.watchdogTime : state.link?.watchdogTime
        guard let interval = HeartRhythm.interval(hangTime: hangTime, watchdogTime: watchdogTime) else { return }
        let record = state.record
        // A guard sees them in the record.
        let feeds = state.link == nil && watchdogTime != nil
        Heart(system.executor, every: interval) {
            if let record { fort_addBeat(record.pointer) }
            if feeds { ServiceManager.tellAlive() }
        }.start()
        if let record, let hangTime { fort_setHangTime(record.pointer, UInt64(max(hangTime.inNanoseconds, 0))) }
    }

    /// A stop may take as long as the program's deadline says, whatever the service manager would wait by itself.
    private static func extendStops(_ executor: any ProcExecutor, _ deadline: Duration) {
        if ServiceManager.socket == nil { return }
        _ = FortEventHub.shared.add { event in
            guard case .stopping = event else { return }
            extendStop(executor, until: executor.now + deadline)
        }
    }

    private static func extendStop(_ executor: any ProcExecutor, until deadline: Duration) {
        executor.schedule(after: ServiceManager.stopRhythm) {
            guard executor.now < deadline else { return }
            ServiceManager.extendStop()
            extendStop(executor, until: deadline)
        }
    }

    private static func watchMemory(_ system: BastionSystem, _ state: ProgramState) {
        let files = MemoryFiles(FileTree())
        if files.pressure == nil {
            system.log.debug("the kernel tells nothing of waiting for memory (PSI): pressure is judged by limits alone")
        }
        let watch = MemoryWatch(files) { pressure in
            guard PressureBoard.publish(pressure) else { return }
            Fort.tell(.memoryPressure(pressure))
            state.record?.note("memory pressure: \(pressure)")
            // The log's handler is the user's.
            LightProc.runOnce(on: system.executor) {
                system.log.notice("memory pressure", metadata: ["level": "\(pressure)"])
            }
        }
        guard let watch else { return system.log.debug("nothing tells of the program's memory: it is not watched") }
        if !watch.start() { system.log.warning("no thread for the watch on memory: it is not watched") }
    }
}
