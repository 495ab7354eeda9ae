// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Synchronization

/// A scheduler that only counts: what is queued with it never runs, and no time passes.
final class Ledger: ProcScheduler {
    let queued = Atomic(0)

    func schedule(_ proc: LightProc) { queued.wrappingAdd(1, ordering: .relaxed) }
    func schedule(_ job: UnownedJob, of executor: ProcTaskExecutor) { queued.wrappingAdd(1, ordering: .relaxed) }
    func schedule(after duration: Duration, _ action: @escaping @Sendable () -> Void) -> TimerToken { TimerToken {} }
    var now: Duration { .zero }
}

struct Adder: ReactiveBody {
    var sum = 0
    mutating func receive(_ message: consuming Int, on proc: LightProc) { sum += message }
}

/// Messages to a process are queued with its scheduler once, however many there are.
func messagesQueueTheProcessOnce() {
    let ledger = Ledger()
    let adder = LightProc.reactive(Adder(), on: ledger)
    for number in 1...3 { precondition(adder.push(.make(number)), "\(adder) refused a message") }
    precondition(ledger.queued.load(ordering: .relaxed) == 1, "a process was queued twice")
    precondition(adder.isReactive && !adder.isClosed && adder.lastExit == nil, "\(adder) is not alive")
}

/// Who holds a handle learns of the end, and of its reason.
func handleLearnsOfTheKill() async {
    let stack = ProcStack(name: "sleeper", state: 7)
    let (sleeper, handle) = LightProc.recoverable(on: Ledger(), stack: stack) { 1 }
    sleeper.restart()
    precondition(sleeper.name == "sleeper" && stack.state(as: Int.self) == 7, "the stack was lost")
    handle.kill()
    guard case .failed(.killed) = await handle.outcome(), case .killed? = sleeper.lastExit else {
        fatalError("\(sleeper) was killed and says that it ended otherwise")
    }
}

messagesQueueTheProcessOnce()
await handleLearnsOfTheKill()
precondition(ProcID.next() < ProcID.next(), "process ids do not grow")
precondition(ExitReason.killed.isFailure && !ExitReason.shutdown.isFailure, "exit reasons are confused")
print("ok LightProcConsumer")
