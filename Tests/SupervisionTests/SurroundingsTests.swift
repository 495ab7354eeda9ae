// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Logging
import Testing

@testable import Supervision

/// What members know of where they are.
@Suite struct SurroundingsTests {
    private static func log(_ trace: Trace) -> Logger {
        .keeping { event, metadata in
            trace("\(event.message) process=\(metadata["process"]!) path=\(metadata["path"] ?? "none")")
        }
    }

    private struct Member: Reactive {
        let trace: Trace
        enum Message: Sendable {
            case tell(Bool)
            case ask(Reply<Bool>)
        }
        mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Member>) {
            let deadline = context.deadlineOfMessage
            switch message {
            case .tell(let isSupervised):
                context.log.info("hello")
                trace("\(context.name) \(context.path) \(context.restarts) \(deadline == nil)")
                #expect((context.system != nil) == isSupervised)
            case .ask(let reply): reply(deadline == Deadline(instant: .seconds(7)))
            }
        }
    }

    @Test(arguments: [true, false])
    func aReactiveMemberKnowsItsNamePathAndSystem(isManaged: Bool) throws {
        let sim = Simulation()
        let trace = sim.trace
        let system = BastionSystem(
            name: "known",
            executor: sim.executor,
            log: Self.log(trace)
        )
        let bare = Children("m", Member(trace: trace))
        let tree = try system.supervise("shop") { isManaged ? bare.mailbox(.unbounded) : bare }
        let member: ProcRef<Member.Message> = try tree.group("m").members[0]
        member.tell(.tell(true))
        sim.drain()
        #expect(trace.lines == ["hello process=\(member.proc) path=/shop/m-0", "m-0 /shop/m-0 0 true"])
        let answer = Answer(member.request(within: .seconds(7)) { .ask($0) })
        sim.drain()
        #expect(answer.value == true)
        trace.clear()
        system.spawn(Member(trace: trace)).tell(.tell(false))
        sim.drain()
        #expect(trace.lines == ["  0 true"])
    }

    @Test func anAsyncMembersLogHasItsPath() throws {
        let sim = Simulation()
        let trace = sim.trace
        let system = BastionSystem(
            name: "known",
            executor: sim.executor,
            log: Self.log(trace)
        )
        let tree = try system.supervise("shop") {
            Children("m") { context in
                await context.yield()
                for await reply in context.messages(of: Reply<Bool>.self) {
                    context.log.info("hello")
                    reply(context.deadlineOfMessage == Deadline(instant: .seconds(7)))
                }
            }
        }
        let member: ProcRef<Reply<Bool>> = try tree.group("m").members[0]
        let answer = Answer(member.request(within: .seconds(7)) { $0 })
        sim.drain()
        #expect(answer.value == true)
        #expect(trace.lines == ["hello process=\(member.proc) path=/shop/m-0"])
    }
}
