// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CFort
import Glibc
import LightProc

/// A program's connection with its guard.
final class GuardLink: Sendable {
    /// What the guard reads when the program has died.
    let record: ProcessRecord
    /// Whether the guard starts nothing again.
    let isInit: Bool
    /// Whether this program was started as another one has died, or its leak budget is exhausted.
    let isAgain: Bool
    /// So often at least a service manager wants a sign of life, which the guard tells it; nil: it does not.
    let watchdogTime: Duration?
    /// The socket, for one request at a time.
    private let control: Locked<CInt>

    /// The connection that the environment describes; nil if there is none. Once, by the only thread there is: the variable is gone then.
    ///
    /// Ends the process if its guard is dead.
    static func fromEnvironment() -> GuardLink? {
        guard let text = getenv(GuardOrder.variable) else { return nil }
        let order = GuardOrder(String(cString: text))
        unsetenv(GuardOrder.variable)
        guard let order else { Fort.fail("\(GuardOrder.variable) is for the guard's use only", .usage) }
        guard fort_dieWithParent(order.parent) else { _exit(ExitCode.forced(by: SIGKILL).rawValue) }
        guard let record = ProcessRecord.map(order.record) else {
            Fort.fail("cannot map the record that the guard has made: \(ErrorNumber(errno))", .operatingSystem)
        }
        return GuardLink(order, record)
    }

    private init(_ order: GuardOrder, _ record: ProcessRecord) {
        self.record = record
        // The memory stays mapped. What this program starts gets none of these.
        close(order.record)
        if let predecessor = order.predecessor {
            if let left = ProcessRecord.map(predecessor.record) {
                if left.isValid {
                    Fort.setPredecessor(Predecessor(record: left, status: predecessor.status, cause: predecessor.cause))
                }
                left.unmap()
            }
            close(predecessor.record)
        }
        _ = fcntl(order.control, F_SETFD, FD_CLOEXEC)
        control = Locked(order.control)
        isInit = order.isInit
        isAgain = order.predecessor != nil
        watchdogTime = order.watchdogTime
    }

    /// Ends the program when the guard is dead, also where the kernel does not, as it has changed its user since. A thread that sleeps.
    func watchGuard() {
        let control = control.withLock { $0 }
        _ = PlainThread(name: "bastion-guard") {
            fort_awaitHangup(control)
            kill(getpid(), SIGKILL)
        }
    }

    /// Tells the guard how far the program has come. Any thread.
    func tell(_ stage: ProgramState.Stage) { send(.stage(UInt8(stage.rawValue))) }

    /// Asks for another program in this one's place, which is told to stop when that one is ready. Any thread.
    func askForReplacement() { send(.replacement) }

    /// Tells the guard that the program has asked for all the sockets that it wants; before it is ready. Any thread.
    func tellSettled() { send(.settled) }

    /// Tells the guard that the program ends as it lacks something, which another one would lack, too. Any thread.
    func tellLack() { send(.lacksSomething) }

    /// Tells the guard that the program wants a socket no more. Any thread.
    func giveBack(_ name: String) { send(.giveBack(name: name)) }

    private func send(_ message: GuardMessage) {
        let bytes = message.bytes
        // Fails only when the guard is dead: then so is this process, at once.
        control.withLock { _ = fort_send($0, bytes, bytes.count, -1) }
    }

    /// Gets a descriptor from the guard, which keeps the socket. Any thread; waits for the guard, which waits for nobody.
    func descriptor(for request: ListenRequest) -> Result<CInt, ErrorNumber> {
        let bytes = GuardMessage.listen(request).bytes
        return control.withLock { control in
            guard fort_send(control, bytes, bytes.count, -1) else { return .failure(ErrorNumber(errno)) }
            var error: Int32 = 0
            var descriptor: CInt = -1
            let count = fort_receive(control, &error, MemoryLayout<Int32>.size, &descriptor, true)
            guard count == MemoryLayout<Int32>.size else { return .failure(ErrorNumber(EPIPE)) }
            if descriptor < 0 { return .failure(ErrorNumber(error == 0 ? EIO : error)) }
            return .success(descriptor)
        }
    }
}
