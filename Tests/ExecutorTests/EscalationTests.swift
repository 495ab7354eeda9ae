// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Synchronization
import TestSupport
import Testing

@testable import Executor
@testable import LightProc

/// What is not contained: damaged memory, signals from outside, threads that are not ours, locks that everybody needs.
@Suite struct EscalationTests {
    private func said(_ result: ExitTest.Result?) -> String {
        String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
    }

    @Test func aWildAccessEndsTheProgram() async {
        let result = await #expect(processExitsWith: .signal(SIGSEGV), observing: [\.standardErrorContent]) {
            let pool = try WorkerPool(workers: 1)
            _ = await pool.spawn { UnsafeMutablePointer<Int>(bitPattern: opaque(0x10))!.pointee = 1 }.outcome()
        }
        #expect(said(result).contains("bastion: this trap is not contained: a wild access"))
    }

    @Test(.withTheFunctionsOfTheCLibrary)
    func anAbortOfTheAllocatorEndsTheProgram() async {
        let result = await #expect(processExitsWith: .signal(SIGABRT), observing: [\.standardErrorContent]) {
            let pool = try WorkerPool(workers: 1)
            _ = await pool.spawn {
                let block = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 16)
                free(opaque(block + 16))
            }.outcome()
        }
        #expect(said(result).contains("bastion: this trap is not contained: an abort from outside the Swift runtime"))
    }

    @Test func aTrapOnAThreadThatIsNotOursEndsTheProgram() async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            let pool = try WorkerPool(workers: 1)
            _ = try await pool.spawn { 1 }.outcome().get()
            PlainThread(name: "stranger") { Misdeed.fatal.commit() }.join()
        }
        #expect(said(result).contains("enough"))
    }

    @Test func aSignalFromOutsideEndsTheProgram() async {
        await #expect(processExitsWith: .signal(SIGSEGV)) {
            let pool = try WorkerPool(workers: 1)
            _ = await pool.spawn {
                // To this very worker, which is running a process, as `kill -SEGV` may.
                pthread_kill(pthread_self(), SIGSEGV)
                while true { pause() }
            }.outcome()
        }
        await #expect(processExitsWith: .signal(SIGSEGV)) {
            let pool = try WorkerPool(workers: 1)
            _ = await pool.spawn {
                kill(getpid(), SIGSEGV)
                while true { pause() }
            }.outcome()
        }
    }

    @Test func anAbortSentToTheProgramEndsIt() async {
        await #expect(processExitsWith: .signal(SIGABRT)) {
            let pool = try WorkerPool(workers: 1)
            _ = await pool.spawn {
                kill(getpid(), SIGABRT)
                while true { pause() }
            }.outcome()
        }
    }

    /// Lazy globals go through a once that every later reader waits for.
    private enum Lazily {
        static let broken: Int = Misdeed.index.commit()
    }

    @Test func aTrapInTheInitialiserOfAGlobalEndsTheProgram() async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            let pool = try WorkerPool(workers: 1)
            _ = await pool.spawn { Lazily.broken }.outcome()
        }
        #expect(said(result).contains("bastion: this trap is not contained: the initialiser of a global was running"))
    }

    @Test func aTrapUnderALockOfTheRuntimeEndsTheProgram() async {
        await #expect(processExitsWith: .failure) {
            let pool = try WorkerPool(workers: 1)
            let locked = Locked(0)
            _ = await pool.spawn {
                locked.withLock {
                    $0 += 1
                    Misdeed.index.commit()
                }
            }.outcome()
        }
    }

    /// A page that is made readable when somebody reads it, by a handler that was there before ours.
    private enum GuardedPage {
        nonisolated(unsafe) static var start = UnsafeMutableRawPointer(bitPattern: 1)!
        nonisolated(unsafe) static var faults = 0

        static func install() {
            faults = 0
            start = mmap(nil, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
            var action = sigaction()
            action.__sigaction_handler.sa_sigaction = { _, info, _ in
                // What is not ours ends the program.
                guard info?.pointee._sifields._sigfault.si_addr == GuardedPage.start else { _exit(9) }
                GuardedPage.faults += 1
                mprotect(GuardedPage.start, 4096, PROT_READ)
            }
            action.sa_flags = SA_SIGINFO | SA_ONSTACK
            precondition(sigaction(SIGSEGV, &action, nil) == 0)
        }

        /// The next read faults again.
        static func read() -> UInt8 {
            mprotect(start, 4096, PROT_NONE)
            return opaque(start).load(as: UInt8.self)
        }
    }

    @Test func aFormerHandlerThatKnowsWhatToDoIsAskedEachTimeAndContainmentStays() async {
        await #expect(processExitsWith: .success) {
            GuardedPage.install()
            let pool = try WorkerPool(workers: 1)
            @Sendable func hasHeir() -> Bool { pool.staff.withLock { $0.seated[0]?.hasHeir == true } }
            for round in 1...3 {
                // Ends: the reaper provides the next when it buries who trapped.
                while !hasHeir() { sched_yield() }
                // On a thread that is not ours, and in a process.
                #expect(GuardedPage.read() == 0)
                #expect(try await pool.spawn { GuardedPage.read() }.outcome().get() == 0)
                #expect(GuardedPage.faults == 2 * round)
                #expect(hasHeir(), "it waits again")
                let overflow = pool.spawn { Misdeed.endlessRecursion.commit() }
                #expect(await overflow.handle.exit().trapReport?.kind == .stackOverflow)
            }
            #expect(Containment.contained == 3)
            await pool.shutDownElsewhere()
        }
    }

    @Test func aSignalThatIsIgnoredStaysSoAndContainmentStays() async {
        await #expect(processExitsWith: .success) {
            signal(SIGABRT, SIG_IGN)
            let pool = try WorkerPool(workers: 1)
            for _ in 0..<3 {
                kill(getpid(), SIGABRT)
                let cast = pool.spawn { Misdeed.forcedCast.commit() }
                #expect(await cast.handle.exit().trapReport?.kind == .failedCast)
            }
            await pool.shutDownElsewhere()
        }
    }

    /// The report of the Swift runtime stays what it was without us.
    @Test func theWordsOfTheRuntimeArePrintedInAnyCase() async {
        let result = await #expect(processExitsWith: .success, observing: [\.standardErrorContent]) {
            let pool = try WorkerPool(workers: 1)
            _ = await pool.spawn { Misdeed.fatal.commit() }.outcome()
            await pool.shutDownElsewhere()
        }
        #expect(said(result).contains("enough"))
        #expect(!said(result).contains("not contained"))
    }
}
