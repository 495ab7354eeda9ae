// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Testing

@testable import LightProc

/// A pipe whose writing end is given away; the reader sees when the last writer is gone.
struct TestPipe: Sendable {
    let reader: Int32
    let writer: Int32

    init() {
        var ends: [Int32] = [-1, -1]
        precondition(pipe(&ends) == 0, "no pipe: \(errno)")
        // A number that no other test gets by chance, so that one closed too often is nobody's.
        writer = fcntl(ends[1], F_DUPFD_CLOEXEC, 600)
        precondition(writer >= 600, "no descriptor: \(errno)")
        Glibc.close(ends[1])
        reader = ends[0]
        _ = fcntl(reader, F_SETFD, FD_CLOEXEC)
    }

    /// Whether the writer is there still.
    var isOpen: Bool {
        var poll = pollfd(fd: reader, events: Int16(POLLIN), revents: 0)
        return Glibc.poll(&poll, 1, 0) == 0
    }

    /// Waits for the end; false after a minute. It comes at once, except when another test forks in this moment: then the
    /// descriptor lives until the other program begins.
    var isEnded: Bool {
        var poll = pollfd(fd: reader, events: Int16(POLLIN), revents: 0)
        return Glibc.poll(&poll, 1, 60_000) == 1
    }

    func closeReader() { Glibc.close(reader) }
}

/// What a process owns, released at its end, one step after the other.
@Suite struct OwnedResourceTests {
    private let scheduler = HandScheduler()
    private let record = Record<String>()

    private func living() -> LightProc { LightProc.reactive(Script(), on: scheduler) }

    private func async(_ main: @escaping @Sendable (LightProc) async throws -> Void) -> LightProc {
        let proc = LightProc.async(on: scheduler, main)
        proc.prepare(name: nil, stack: nil, observer: nil, shutdownTime: .seconds(1))
        return proc
    }

    /// Runs a reactive process that owns a pipe's end until it is over.
    private func endsWithItsPipe(
        reason: String,
        sourceLocation: Testing.SourceLocation = #_sourceLocation,
        _ act: @escaping @Sendable (LightProc) throws -> Void
    ) {
        let pipe = TestPipe()
        let proc = living()
        proc.tell { $0.own(fileDescriptor: pipe.writer) }
        scheduler.drain()
        #expect(pipe.isOpen, sourceLocation: sourceLocation)
        proc.tell(act)
        scheduler.drain()
        #expect(proc.lastExit?.description == reason, sourceLocation: sourceLocation)
        #expect(pipe.isEnded, sourceLocation: sourceLocation)
        pipe.closeReader()
    }

    @Test func aDescriptorIsClosedAtEveryEndOfAReactiveProcess() {
        endsWithItsPipe(reason: "normal") { $0.finish() }
        endsWithItsPipe(reason: "shutdown") { $0.stop() }
        endsWithItsPipe(reason: "killed") { $0.kill() }
        endsWithItsPipe(reason: "error: mishap") { _ in throw Mishap() }
    }

    @Test(arguments: [false, true])
    func aDescriptorIsClosedAtEveryEndOfAnAsyncProcess(failing: Bool) {
        let pipe = TestPipe()
        let proc = async { proc in
            proc.own(fileDescriptor: pipe.writer)
            if failing { throw Mishap() }
        }
        proc.restart()
        scheduler.drain()
        #expect(proc.lastExit?.isFailure == failing)
        #expect(pipe.isEnded)
        pipe.closeReader()
    }

    @Test func aDescriptorOfAProcessThatIgnoresAKillIsClosed() {
        let (pipe, latch) = (TestPipe(), Latch())
        let proc = async { proc in
            proc.own(fileDescriptor: pipe.writer)
            await latch.wait()
        }
        proc.restart()
        scheduler.drain()
        #expect(pipe.isOpen)
        proc.kill()
        scheduler.drain()
        #expect(pipe.isEnded)
        pipe.closeReader()
    }

    @Test func whatWasOwnedBeforeAStartThatFailedIsReleased() {
        let proc = LightProc.reactive(on: scheduler) { () throws -> Script in
            LightProc.current?.onExit { _ in }
            throw Mishap()
        }
        proc.prepare(name: nil, stack: nil, observer: nil, shutdownTime: .seconds(1))
        let pipe = TestPipe()
        proc.own(fileDescriptor: pipe.writer)
        proc.restart()
        scheduler.drain()
        #expect(proc.lastExit?.description == "error: mishap")
        #expect(pipe.isEnded)
        pipe.closeReader()
    }

    @Test func hooksAndReleasesAreOneOrderLastFirst() {
        let proc = living()
        proc.tell { [record] proc in
            proc.onExit { _ in record.note("hook 0") }
            proc.own(1) { record.note("release \($0)") }
            proc.onExit { _ in record.note("hook 2") }
            let taken = proc.onExit { _ in record.note("taken back") }
            #expect(taken.cancel())
            #expect(!taken.cancel())
            proc.own(3) { record.note("release \($0)") }
            proc.finish()
        }
        scheduler.drain()
        #expect(record.events == ["release 3", "hook 2", "release 1", "hook 0"])
    }

    @Test func whoAsksAProcessToStopReleasesNothing() {
        let proc = living()
        proc.own(1) { [record] _ in record.note("released") }
        proc.stop()
        #expect(record.events == [])
        scheduler.drain()
        #expect(record.events == ["released"])
    }

    @Test func closingByHandClosesOnceAndGivesUp() {
        let (pipe, other) = (TestPipe(), TestPipe())
        let proc = living()
        let owned = proc.own(fileDescriptor: pipe.writer)
        #expect(owned.close() == .closed)
        #expect(pipe.isEnded)
        #expect(owned.close() == .notOwned)
        #expect(!owned.disown())
        // The number is free again: whoever gets it now keeps it.
        #expect(dup2(other.writer, pipe.writer) == pipe.writer)
        proc.stop()
        scheduler.drain()
        #expect(fcntl(pipe.writer, F_GETFD) != -1, "closed by the end, though it was another's by then")
        for descriptor in [pipe.writer, other.writer] { Glibc.close(descriptor) }
        pipe.closeReader()
        other.closeReader()
    }

    @Test func whatWasDisownedStaysOpen() {
        let pipe = TestPipe()
        let proc = living()
        #expect(proc.own(fileDescriptor: pipe.writer).disown())
        let resource = proc.own("x") { [record] in record.note($0) }
        #expect(resource.value == "x")
        #expect(resource.disown())
        #expect(!resource.release())
        proc.stop()
        scheduler.drain()
        #expect(pipe.isOpen)
        #expect(record.events == [])
        Glibc.close(pipe.writer)
        pipe.closeReader()
    }

    @Test func releasingByHandReleasesOnce() {
        let proc = living()
        let resource = proc.own("x") { [record] in record.note($0) }
        #expect(resource.release())
        #expect(!resource.release())
        proc.stop()
        scheduler.drain()
        #expect(record.events == ["x"])
    }

    @Test func anErrorOfClosingIsTold() {
        let pipe = TestPipe()
        let proc = living()
        let owned = proc.own(fileDescriptor: pipe.writer)
        Glibc.close(pipe.writer)
        #expect(owned.close() == .failed(errno: EBADF))
        pipe.closeReader()
    }

    /// Many tokens, taken back in any order: the list stays in order and nothing is lost.
    @Test func tokensAreTakenBackInAnyOrder() {
        let proc = living()
        let tokens = (0..<20).map { number in proc.own(number) { [record] in record.note("\($0)") } }
        for number in [7, 0, 19, 3, 12] { #expect(tokens[number].disown()) }
        proc.stop()
        scheduler.drain()
        #expect(record.events == (0..<20).reversed().filter { ![7, 0, 19, 3, 12].contains($0) }.map { "\($0)" })
        for token in tokens { #expect(!token.disown()) }
    }

    // MARK: Too late

    @Test func whatIsRegisteredWithAProcessThatIsOverIsReleasedAtOnce() {
        let proc = living()
        proc.stop()
        scheduler.drain()
        let pipe = TestPipe()
        let owned = proc.own(fileDescriptor: pipe.writer)
        #expect(pipe.isEnded)
        #expect(owned.close() == .notOwned)
        let resource = proc.own(1) { [record] in record.note("release \($0)") }
        #expect(!resource.release())
        let hook = proc.onExit { [record] in record.note("hook \($0)") }
        #expect(!hook.cancel())
        scheduler.drain()
        #expect(record.events.sorted() == ["hook shutdown", "release 1"])
        pipe.closeReader()
    }

    @Test func whatIsRegisteredWithAnIncarnationBeforeTheLivingOneIsReleasedAtOnce() {
        let observer = NotingObserver(record) { proc, _ in proc.restart() }
        let proc = LightProc.reactive(on: scheduler) { Script() }
        proc.prepare(name: nil, stack: nil, observer: observer, shutdownTime: .seconds(1))
        proc.restart()
        proc.tell { _ in throw Mishap() }
        scheduler.drain()
        #expect(proc.incarnation == 2)
        let (former, present) = (TestPipe(), TestPipe())
        _ = proc.own(fileDescriptor: former.writer, of: 1)
        _ = proc.own(fileDescriptor: present.writer, of: 2)
        #expect(former.isEnded)
        #expect(present.isOpen)
        proc.tell { _ in throw Mishap() }
        scheduler.drain()
        #expect(present.isEnded)
        former.closeReader()
        present.closeReader()
    }

    @Test func aTokenOfAnEarlierIncarnationDoesNotTouchALaterOne() {
        let observer = NotingObserver(record) { proc, _ in proc.restart() }
        let proc = LightProc.reactive(on: scheduler) { Script() }
        proc.prepare(name: nil, stack: nil, observer: observer, shutdownTime: .seconds(1))
        proc.restart()
        scheduler.drain()
        let token = proc.own(1) { [record] _ in record.note("first") }
        proc.tell { _ in throw Mishap() }
        scheduler.drain()
        proc.own(2) { [record] _ in record.note("second") }
        #expect(!token.release())
        proc.tell { _ in throw Mishap() }
        scheduler.drain()
        #expect(record.events == ["first", "observer: error: mishap", "second", "observer: error: mishap"])
    }

    @Test func whatIsRegisteredAfterTheHooksHaveRunIsCalledAtOnce() {
        let proc = LightProc.reactive(on: scheduler) { Script() }
        var stack = ProcStack()
        stack.afterComplete = { [record, weak proc] in
            record.note("afterComplete")
            proc?.onExit { record.note("late: \($0)") }
        }
        proc.prepare(name: nil, stack: stack, observer: nil, shutdownTime: .seconds(1))
        proc.restart()
        proc.tell { $0.finish() }
        scheduler.drain()
        #expect(record.events == ["afterComplete", "late: normal"])
    }

    @Test func whatIsRegisteredForAnIncarnationThatNeverComesIsReleasedAtClose() {
        let pipe = TestPipe()
        let proc = LightProc.reactive(on: scheduler) { Script() }
        proc.own(fileDescriptor: pipe.writer)
        proc.close()
        scheduler.drain()
        #expect(pipe.isEnded)
        pipe.closeReader()
    }

    @Test func whatADroppedProcessOwnedIsReleasedByAProcessOfItsOwn() {
        do {
            let proc = living()
            for number in 0..<3 { proc.own(number) { [record] in record.note("release \($0)") } }
            proc.onExit { [record] in record.note("hook: \($0)") }
        }
        #expect(record.events == [])
        scheduler.drain()
        #expect(record.events == ["hook: shutdown", "release 2", "release 1", "release 0"])
    }

    /// A body that keeps its token must not keep its process.
    @Test func aTokenDoesNotHoldOnToItsProcess() {
        weak var watched: LightProc?
        let pipe = TestPipe()
        do {
            let proc = LightProc.reactive(Keeper(), on: scheduler)
            watched = proc
            proc.send(pipe.writer)
            scheduler.drain()
        }
        #expect(watched == nil)
        scheduler.drain()
        #expect(pipe.isEnded)
        pipe.closeReader()
    }

    private struct Keeper: ReactiveBody {
        var token: OwnedDescriptor?
        mutating func receive(_ message: consuming Int32, on proc: LightProc) {
            token = proc.own(fileDescriptor: message)
        }
    }
}
