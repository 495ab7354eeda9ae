// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Runtime
import Testing

@Suite struct RuntimeTests {
    /// Would not compile if one of the four were missing.
    @Test func theUmbrellaExportsAllFourModules() {
        let reason: ExitReason = .normal
        #expect(!reason.isFailure)
        let executor: any ProcExecutor = SeededExecutor(seed: 1)
        #expect(executor.now == .zero)
        #expect(RestartType.permanent.restarts(after: reason))
        #expect(ExitCode.success.rawValue == 0)
    }

    @Test func aTreeWorksThroughTheUmbrellaAlone() throws {
        let executor = SeededExecutor(seed: 1)
        let system = BastionSystem(executor: executor)
        let tree = try system.supervise {
            Children("doubler") { context in
                for await (n, reply) in context.messages(of: (Int, Reply<Int>).self) { reply(n * 2) }
            }
        }
        let doubler: Group<(Int, Reply<Int>)> = try tree.group("doubler")
        let pending = doubler.request { (21, $0) }
        executor.drain()
        let answers = AnswerCount()
        pending.whenComplete { result in
            if case .success(42) = result { answers.count() }
        }
        executor.drain()
        #expect(answers.value == 1)
        tree.stop {}
        executor.drain()
    }

    private final class AnswerCount: Sendable {
        private let word = AtomicWord(0)
        func count() { word.wrappingAdd(1, ordering: .relaxed) }
        var value: UInt { word.load(ordering: .relaxed) }
    }
}
