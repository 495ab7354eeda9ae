// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import TestSupport
import Testing

@testable import Executor
@testable import LightProc

/// Descriptors and other property of processes that end in every way, on a pool of two workers.
@Suite struct OwnedResourcePoolTests {
    /// Waits until the last writer of a pipe is gone.
    private static func blockingWaitForEnd(of reader: Int32) {
        var byte: UInt8 = 0
        var count = read(reader, &byte, 1)
        // Tried again after a signal: this is read(2), not close(2).
        while count < 0, errno == EINTR { count = read(reader, &byte, 1) }
        precondition(count == 0, "read returned \(count)")
        Glibc.close(reader)
    }

    private static func pipe() -> (reader: Int32, writer: Int32) {
        var ends: [Int32] = [-1, -1]
        precondition(Glibc.pipe(&ends) == 0, "no pipe: \(errno)")
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        return (ends[0], ends[1])
    }

    enum Ending: CaseIterable, Sendable {
        case normal
        case error
        case trap
        case trapInChildTask
        case kill
        case killIgnored
        case stop
        case deadline
    }

    @Test(arguments: Ending.allCases)
    func aDescriptorOfAnAsyncProcessIsClosed(ending: Ending) async throws {
        let pool = try WorkerPool(workers: 2)
        let ends = Self.pipe()
        let owned = AsyncGate()
        let never = AsyncGate()
        let proc = LightProc.async(on: pool) { proc in
            proc.own(fileDescriptor: ends.writer)
            owned.open()
            switch ending {
            case .normal: return
            case .error: throw Boom()
            case .trap: Misdeed.index.commit()
            case .trapInChildTask:
                await withTaskGroup(of: Void.self) { group in
                    group.addTask { await never.wait() }
                    group.addTask { Misdeed.index.commit() }
                }
            case .kill, .stop, .deadline: _ = await proc.receiveNode()
            case .killIgnored: await never.wait()
            }
        }
        let stack = ProcStack(deadline: ending == .deadline ? .milliseconds(1) : nil)
        proc.prepare(name: nil, stack: stack, observer: nil, shutdownTime: .seconds(1))
        proc.restart()
        await owned.wait()
        switch ending {
        case .kill, .killIgnored: proc.kill()
        case .stop: proc.stop()
        default: break
        }
        Self.blockingWaitForEnd(of: ends.reader)
        let reason = await exit(of: proc)
        #expect(reason.isFailure == (ending != .normal && ending != .stop))
        never.open()
        await pool.shutDownElsewhere()
    }

    @Test(arguments: [Ending.normal, .error, .trap, .kill, .stop])
    func aDescriptorOfAReactiveProcessIsClosed(ending: Ending) async throws {
        let pool = try WorkerPool(workers: 2)
        let ends = Self.pipe()
        let proc = LightProc.reactive(Doer(), on: pool)
        proc.tell { proc in
            proc.own(fileDescriptor: ends.writer)
            switch ending {
            case .normal: proc.finish()
            case .error: throw Boom()
            case .trap: Misdeed.index.commit()
            case .kill: proc.kill()
            default: proc.stop()
            }
        }
        Self.blockingWaitForEnd(of: ends.reader)
        let reason = await exit(of: proc)
        #expect(reason.isFailure == (ending != .normal && ending != .stop))
        await pool.shutDownElsewhere()
    }

    @Test func aReleaseThatTrapsEndsItselfOnlyAndAllRunInTheNameOfTheProcess() async throws {
        let pool = try WorkerPool(workers: 2)
        let ends = Self.pipe()
        let order = Numbers()
        let proc = LightProc.reactive(Doer(), on: pool)
        let id = proc.id
        proc.tell { proc in
            proc.own(fileDescriptor: ends.writer)
            for number in 0..<4 {
                proc.own(number) { number in
                    order.add(LightProc.current?.id == id ? number : -1)
                    if number % 2 == 1 { Misdeed.index.commit() }
                }
            }
            proc.onExit { _ in order.add(4) }
            Misdeed.unwrapping.commit()
        }
        Self.blockingWaitForEnd(of: ends.reader)
        #expect(order.numbers == [4, 3, 2, 1, 0])
        #expect(await exit(of: proc).trapReport?.process == id)
        await pool.shutDownElsewhere()
    }

    /// The end and a close by hand, at the same time: whoever comes first closes, and nobody twice.
    @Test func aDescriptorIsClosedOnceAlthoughTheEndAndItsOwnerRace() async throws {
        let pool = try WorkerPool(workers: 2)
        for _ in 0..<500 {
            let proc = LightProc.reactive(Doer(), on: pool)
            let closed = Numbers()
            let resource = proc.own(1) { closed.add($0) }
            let race = pool.spawn { resource.release() }
            proc.kill()
            _ = try await race.outcome().get()
            _ = await exit(of: proc)
            // The hooks run after those who await a handle are told.
            while !proc.isClosed { await Task.yield() }
            #expect(closed.numbers == [1])
        }
        await pool.shutDownElsewhere()
    }

    /// A task that is not the process's own registers when the process may be over: released, now or then.
    @Test func whatADetachedTaskRegistersIsReleasedWhenever() async throws {
        let pool = try WorkerPool(workers: 2)
        for _ in 0..<200 {
            let proc = LightProc.reactive(Doer(), on: pool)
            let ends = Self.pipe()
            let task = Task.detached { proc.own(fileDescriptor: ends.writer) }
            proc.kill()
            _ = await task.value
            Self.blockingWaitForEnd(of: ends.reader)
        }
        await pool.shutDownElsewhere()
    }
}

/// Numbers, in the order in which they were noted.
final class Numbers: Sendable {
    private let list = Locked<[Int]>([])
    var numbers: [Int] { list.withLock { $0 } }
    func add(_ number: Int) { list.withLock { $0.append(number) } }
}
