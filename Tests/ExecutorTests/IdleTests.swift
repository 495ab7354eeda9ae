// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import TestSupport
import Testing

@testable import Executor
@testable import LightProc

/// Nobody polls: a pool without work uses no processor.
@Suite struct IdleTests {
    /// Measures for 10 seconds, in a program that has nothing else to do.
    @Test(.enabled(if: !Sanitizer.isAny)) func anIdlePoolUsesNoProcessorTime() async {
        await #expect(processExitsWith: .success) {
            let pool = try WorkerPool(workers: 2)
            // A worker, an heir, the reaper and the timer's thread have been used; threads for blocking work would end meanwhile.
            _ = await pool.spawn { Misdeed.overflow.commit() }.handle.exit()
            try await pool.sleep(for: .milliseconds(1))
            let idle = LightProc.reactive(Doer(), on: pool)
            let far = pool.schedule(after: .seconds(3600)) {}
            while !pool.counters.allSatisfy(\.isParked) { sched_yield() }
            // The reaper and the report thread finish after that, and the stall watch looks some times more. Who is at work, on a
            // machine that is busy, falls asleep seldom, but uses processor time.
            var last = Usage()
            while true {
                usleep(1_000_000)
                let now = Usage()
                if now.switches == last.switches, now.microseconds - last.microseconds < 1_000 { break }
                last = now
            }
            let before = Usage()
            sleep(10)
            let after = Usage()
            let awake = after.switches.filter { before.switches[$0.key] != $0.value }
            #expect(awake.isEmpty, "woke up: \(awake), before: \(before.switches)")
            // The clock of processor time ticks by the scheduler's own measure; this program's main thread has slept, too.
            #expect(after.microseconds - before.microseconds < 5_000, "0 % of 10 s, to a twentieth of a percent")
            withExtendedLifetime((idle, far)) {}
            far.cancel()
            await pool.shutDownElsewhere()
        }
    }

    private struct Usage {
        /// Processor time of the whole program.
        let microseconds: Int
        /// How many times threads of ours fell asleep.
        let switches: [String: Int]

        init() {
            var usage = rusage()
            getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
            microseconds =
                (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1_000_000 + usage.ru_utime.tv_usec
                + usage.ru_stime.tv_usec
            switches = OurThreads.voluntarySwitches()
        }
    }
}
