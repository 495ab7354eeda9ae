// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Supervision
import Testing

@testable import Fort

/// The guard's decisions.
@Suite struct GuardMachineTests {
    private typealias Action = GuardMachine.Action

    private static func policy(
        _ intensity: RestartIntensity = RestartIntensity(2, within: .seconds(10)),
        startTime: Duration? = nil,
        isInit: Bool = false
    ) -> GuardMachine.Policy {
        .init(
            intensity: intensity,
            backoff: .exponential(.milliseconds(100), cap: .seconds(1)),
            stopTime: .seconds(5),
            startTime: startTime,
            handoverTime: .seconds(60),
            isInit: isInit
        )
    }

    /// One whose first child, number 100, runs.
    private static func running(
        _ policy: GuardMachine.Policy = policy(),
        isReady: Bool = true
    ) -> Subject {
        let machine = Subject(policy)
        #expect(machine.begin() == [.start(incarnation: 1)])
        #expect(machine.started(100, incarnation: 1, at: .zero) == [])
        if isReady { #expect(machine.ready(100, at: .zero) == []) }
        return machine
    }

    // MARK: Deaths

    @Test(arguments: [
        ChildEnd.exit(1), .exit(70), .signal(SIGSEGV), .signal(SIGKILL), .signal(SIGABRT), .outOfMemory,
    ])
    func whoDiesIsStartedAgain(_ cause: ChildEnd) {
        let machine = Self.running()
        let actions = machine.ended(100, cause, at: .seconds(1))
        #expect(actions.first == .report(pid: 100, cause))
        #expect(machine.nextTime == .seconds(1) + .milliseconds(100))
        #expect(machine.timePassed(.seconds(1)) == [])
        #expect(machine.timePassed(.seconds(1) + .milliseconds(100)) == [.start(incarnation: 2)])
        #expect(machine.nextTime == nil)
    }

    @Test func whoReturnsEndsTheGuard() {
        let machine = Self.running()
        #expect(machine.ended(100, .exit(0), at: .seconds(1)) == [.exit(0)])
    }

    @Test(arguments: [(ChildEnd.exit(3), Int32(3)), (.signal(SIGSEGV), 139), (.outOfMemory, 137)])
    func whenTheBudgetIsExceededTheGuardEndsWithTheChildsCode(_ cause: ChildEnd, _ code: Int32) {
        let machine = Self.running()
        for restart in 1...2 {
            _ = machine.ended(Int32(99 + restart), cause, at: .seconds(restart))
            #expect(machine.timePassed(.seconds(restart) + .milliseconds(900)) == [.start(incarnation: restart + 1)])
            _ = machine.started(
                Int32(100 + restart),
                incarnation: restart + 1,
                at: .seconds(restart) + .milliseconds(900)
            )
        }
        let actions = machine.ended(102, cause, at: .seconds(3))
        #expect(actions.last == .exit(code))
        #expect(actions.contains(.report(pid: 102, cause)))
    }

    @Test func deathsThatAreLongPastAreForgotten() {
        let machine = Self.running()
        for restart in 1...20 {
            let now = Duration.seconds(restart * 6)
            #expect(machine.ended(Int32(99 + restart), .signal(SIGSEGV), at: now).last?.isExit == false)
            #expect(machine.timePassed(now + .seconds(1)) == [.start(incarnation: restart + 1)])
            _ = machine.started(Int32(100 + restart), incarnation: restart + 1, at: now + .seconds(1))
        }
    }

    @Test(arguments: [64, 66, 69, 72, 73, 77, 78] as [Int32])
    func whoWasNeverReadyAndSaysThatItIsUselessIsNotStartedAgain(_ code: Int32) {
        let machine = Self.running(isReady: false)
        #expect(machine.ended(100, .exit(code), at: .seconds(1)) == [.exit(code)])
        let later = Self.running()
        #expect(later.ended(100, .exit(code), at: .seconds(1)).last?.isExit == false)
    }

    @Test func anExecutableThatIsMissingEndsTheGuardAtOnce() {
        let machine = Subject(Self.policy())
        _ = machine.begin()
        #expect(machine.notStarted(ENOENT, at: .zero) == [.say(.useless(.notStarted(ENOENT))), .exit(72)])
    }

    @Test func anExecutableThatGetsLostIsTriedAgain() {
        let machine = Self.running()
        _ = machine.ended(100, .signal(SIGKILL), at: .seconds(1))
        #expect(machine.timePassed(.seconds(2)) == [.start(incarnation: 2)])
        #expect(machine.notStarted(ENOENT, at: .seconds(2)).last?.isExit == false)
        #expect(machine.nextTime != nil)
    }

    // MARK: Stops

    @Test func aStopIsPassedOnAndEndsWithTheChildsCode() {
        for (code, report) in [(0, []), (75, [.report(pid: 100, .exit(75))])] as [(Int32, [Action])] {
            let machine = Self.running()
            #expect(machine.signaled(SIGTERM, at: .seconds(1)) == [.send(SIGTERM, to: 100)])
            #expect(machine.nextTime == .seconds(6))
            #expect(machine.ended(100, .exit(code), at: .seconds(2)) == report + [.exit(code)])
        }
    }

    @Test func theTerminalsSignalIsNotPassedOnTwice() {
        let machine = Self.running()
        #expect(machine.signaled(SIGINT, reachedAll: true, at: .seconds(1)) == [])
        #expect(machine.ended(100, .exit(0), at: .seconds(2)) == [.exit(0)])
    }

    @Test func whoDoesNotStopInTimeIsKilled() {
        let machine = Self.running()
        _ = machine.signaled(SIGTERM, at: .zero)
        #expect(machine.timePassed(.seconds(4)) == [])
        #expect(machine.timePassed(.seconds(5)) == [.say(.forcing(pid: 100)), .send(SIGKILL, to: 100)])
        #expect(machine.ended(100, .signal(SIGKILL), at: .seconds(5)) == [.report(pid: 100, .forced), .exit(137)])
    }

    @Test func whoHangsInItsStopIsWrittenUpAsThat() {
        let machine = Self.running()
        _ = machine.signaled(SIGTERM, at: .zero)
        #expect(machine.hung(100, at: .seconds(1)) == [.say(.hung(pid: 100)), .send(SIGQUIT, to: 100)])
        #expect(machine.timePassed(.seconds(2)) == [.send(SIGKILL, to: 100)])
        #expect(machine.ended(100, .signal(SIGKILL), at: .seconds(2)) == [.report(pid: 100, .hang), .exit(137)])
    }

    @Test func theSecondSignalForces() {
        let machine = Self.running()
        _ = machine.signaled(SIGTERM, at: .zero)
        #expect(machine.signaled(SIGINT, at: .seconds(1)) == [.send(SIGINT, to: 100)])
        #expect(machine.nextTime == .seconds(1) + GuardMachine.forcedStopTime)
        #expect(machine.ended(100, .exit(130), at: .seconds(1)) == [.report(pid: 100, .forced), .exit(130)])
    }

    @Test func aStopWhileNothingRunsEndsAtOnce() {
        let machine = Self.running()
        _ = machine.ended(100, .signal(SIGSEGV), at: .seconds(1))
        #expect(machine.signaled(SIGTERM, at: .seconds(1)) == [.exit(0)])
    }

    @Test func whoDiesOfTheRequestItselfHasStopped() {
        let machine = Self.running(isReady: false)
        _ = machine.signaled(SIGTERM, at: .zero)
        #expect(machine.ended(100, .signal(SIGTERM), at: .zero) == [.exit(0)])
    }

    @Test(arguments: [SIGHUP, SIGQUIT, SIGUSR1] as [Int32]) func othersArePassedOn(_ signal: Int32) {
        let machine = Self.running()
        #expect(machine.signaled(signal, at: .zero) == [.send(signal, to: 100)])
    }

    // MARK: Handovers

    @Test func theOldOneStopsWhenTheNewOneIsReady() {
        let machine = Self.running()
        #expect(machine.signaled(SIGUSR2, at: .zero) == [.start(incarnation: 2)])
        #expect(machine.started(200, incarnation: 2, at: .zero) == [.say(.handingOver(from: 100, to: 200))])
        #expect(machine.signaled(SIGUSR2, at: .zero) == [.say(.noHandover("one is under way"))])
        #expect(
            machine.ready(200, at: .seconds(1)) == [.say(.handedOver(from: 100, to: 200)), .retire(100)]
        )
        #expect(machine.current?.pid == 200)
        #expect(machine.ended(100, .exit(0), at: .seconds(2)) == [.say(.retired(pid: 100, .exit(0)))])
        #expect(machine.nextTime == nil)
    }

    @Test func socketsAreClosedWhenTheHandoverIsOverAndTheNewOneHasAskedForAllItWants() {
        for isSettled in [true, false] {
            let machine = Self.running()
            for number in 2...3 {
                let pid = Int32(number * 100)
                _ = machine.signaled(SIGUSR2, at: .zero)
                _ = machine.started(pid, incarnation: number, at: .zero)
                if isSettled { machine.settled(pid) }
                _ = machine.ready(pid, at: .zero)
            }
            // Another one still stops.
            #expect(machine.ended(100, .exit(0), at: .zero) == [.say(.retired(pid: 100, .exit(0)))])
            let close: [Action] = isSettled ? [.closeSockets(notOf: 300)] : []
            #expect(machine.ended(200, .exit(0), at: .zero) == close + [.say(.retired(pid: 200, .exit(0)))])
        }
    }

    @Test func aStopDuringAHandoverTellsEachOnce() {
        let machine = Self.running()
        _ = machine.signaled(SIGUSR2, at: .zero)
        _ = machine.started(200, incarnation: 2, at: .zero)
        #expect(machine.ready(200, at: .seconds(1)).last == .retire(100))
        // The old one has been told.
        #expect(machine.signaled(SIGTERM, at: .seconds(2)) == [.send(SIGTERM, to: 200)])
        #expect(machine.nextTime == .seconds(6))
        #expect(machine.ended(200, .exit(0), at: .seconds(3)) == [])
        #expect(machine.ended(100, .exit(0), at: .seconds(4)) == [.exit(0)])
    }

    @Test func whoBecomesReadyDuringAStopTakesNothingOver() {
        let machine = Self.running()
        _ = machine.signaled(SIGUSR2, at: .zero)
        _ = machine.started(200, incarnation: 2, at: .zero)
        #expect(machine.signaled(SIGTERM, at: .seconds(1)) == [.send(SIGTERM, to: 100), .send(SIGTERM, to: 200)])
        #expect(machine.ready(200, at: .seconds(1)) == [])
        #expect(machine.ended(200, .signal(SIGTERM), at: .seconds(2)) == [])
        #expect(machine.ended(100, .exit(0), at: .seconds(2)) == [.exit(0)])
    }

    /// A second request would force it.
    @Test func aSuccessorThatWasToldToStopIsNotToldAgainWhenTheProgramHasEnded() {
        let machine = Self.running()
        _ = machine.signaled(SIGUSR2, at: .zero)
        _ = machine.started(200, incarnation: 2, at: .zero)
        #expect(machine.signaled(SIGTERM, at: .seconds(1)) == [.send(SIGTERM, to: 100), .send(SIGTERM, to: 200)])
        #expect(machine.ended(100, .exit(0), at: .seconds(2)) == [])
        #expect(machine.nextTime == .seconds(6))
        #expect(machine.ended(200, .exit(0), at: .seconds(3)) == [.exit(0)])
    }

    @Test func whoIsAboutToTakeOverHearsOfTheConfigurationToo() {
        let machine = Self.running()
        _ = machine.signaled(SIGUSR2, at: .zero)
        _ = machine.started(200, incarnation: 2, at: .zero)
        #expect(machine.signaled(SIGHUP, at: .zero) == [.send(SIGHUP, to: 100), .send(SIGHUP, to: 200)])
        #expect(machine.signaled(SIGHUP, reachedAll: true, at: .zero) == [])
        #expect(machine.signaled(SIGQUIT, at: .zero) == [.send(SIGQUIT, to: 100)])
        _ = machine.ready(200, at: .zero)
        #expect(machine.signaled(SIGHUP, at: .zero) == [.send(SIGHUP, to: 200)])
    }

    /// It was ready, as it does not say when it is.
    @Test func whoLacksSomethingIsNotStartedAgain() {
        let machine = Self.running()
        machine.lacksSomething(100)
        machine.stopping(100, at: .zero)
        #expect(machine.ended(100, .exit(69), at: .seconds(1)) == [.exit(69)])
    }

    @Test func whoWasReplacedAndDiesIsWrittenUp() {
        let machine = Self.running()
        _ = machine.signaled(SIGUSR2, at: .zero)
        _ = machine.started(200, incarnation: 2, at: .zero)
        _ = machine.ready(200, at: .seconds(1))
        #expect(
            machine.ended(100, .signal(SIGSEGV), at: .seconds(2)) == [
                .report(pid: 100, .signal(SIGSEGV)), .say(.retired(pid: 100, .signal(SIGSEGV))),
            ]
        )
    }

    @Test func noMoreAreReplacedThanMayStillStop() {
        let machine = Self.running()
        for number in 2...5 {
            let pid = Int32(number * 100)
            #expect(machine.signaled(SIGUSR2, at: .zero) == [.start(incarnation: number)])
            _ = machine.started(pid, incarnation: number, at: .zero)
            _ = machine.ready(pid, at: .zero)
        }
        #expect(machine.signaled(SIGUSR2, at: .zero).first?.isSay == true)
        _ = machine.ended(200, .exit(0), at: .seconds(1))
        #expect(machine.signaled(SIGUSR2, at: .seconds(1)) == [.start(incarnation: 6)])
    }

    @Test func whoIsExhaustedBeforeItIsReadyIsReplacedThen() {
        let machine = Self.running()
        _ = machine.signaled(SIGUSR2, at: .zero)
        _ = machine.started(200, incarnation: 2, at: .zero)
        #expect(machine.replacementWanted(by: 200, at: .zero) == [])
        _ = machine.ready(200, at: .seconds(1))
        #expect(machine.timePassed(.seconds(1)) == [.start(incarnation: 3)])
    }

    @Test func whatTheSystemLacksAtFirstIsTriedAgain() {
        let machine = Subject(Self.policy())
        _ = machine.begin()
        #expect(machine.notStarted(EAGAIN, at: .zero).last?.isExit == false)
        #expect(machine.nextTime != nil)
    }

    @Test func aNewOneThatFailsLeavesTheOldOne() {
        let machine = Self.running()
        _ = machine.signaled(SIGUSR2, at: .zero)
        _ = machine.started(200, incarnation: 2, at: .zero)
        let actions = machine.ended(200, .exit(64), at: .seconds(1))
        #expect(actions == [.report(pid: 200, .exit(64)), .say(.handoverFailed(.exit(64)))])
        #expect(machine.current?.pid == 100)
        #expect(machine.nextTime == nil)
        _ = machine.signaled(SIGUSR2, at: .seconds(2))
        #expect(machine.notStarted(ENOENT, at: .seconds(2)) == [.say(.handoverFailed(.notStarted(ENOENT)))])
    }

    @Test func aNewOneThatIsNeverReadyIsKilled() {
        let machine = Self.running()
        _ = machine.signaled(SIGUSR2, at: .zero)
        _ = machine.started(200, incarnation: 2, at: .zero)
        #expect(machine.timePassed(.seconds(60)) == [.say(.forcing(pid: 200)), .send(SIGKILL, to: 200)])
        #expect(machine.ended(200, .signal(SIGKILL), at: .seconds(60)).last == .say(.handoverFailed(.notReady)))
    }

    @Test func whoIsNotReadyInTimeIsKilledAndStartedAgain() {
        let machine = Self.running(Self.policy(startTime: .seconds(20)), isReady: false)
        #expect(machine.nextTime == .seconds(20))
        #expect(machine.timePassed(.seconds(20)) == [.say(.forcing(pid: 100)), .send(SIGKILL, to: 100)])
        #expect(machine.ended(100, .signal(SIGKILL), at: .seconds(20)).first == .report(pid: 100, .notReady))
        #expect(machine.timePassed(.seconds(21)) == [.start(incarnation: 2)])
        _ = machine.started(200, incarnation: 2, at: .seconds(21))
        #expect(machine.nextTime == .seconds(41))
        // In time.
        #expect(machine.ready(200, at: .seconds(40)) == [])
        #expect(machine.nextTime == nil)
    }

    /// What comes before the time to be ready is over: it counts then, or no more.
    @Test func theTimeToBeReadyIsNotTheTimeToStop() {
        func starting() -> Subject { Self.running(Self.policy(startTime: .seconds(2)), isReady: false) }
        let told = starting()
        _ = told.signaled(SIGTERM, at: .seconds(1))
        #expect(told.nextTime == .seconds(6))
        #expect(told.ready(100, at: .seconds(1)) == [])
        #expect(told.nextTime == .seconds(6))
        #expect(told.timePassed(.seconds(6)).last == .send(SIGKILL, to: 100))
        #expect(told.ended(100, .signal(SIGKILL), at: .seconds(6)).first == .report(pid: 100, .forced))
        let byItself = starting()
        byItself.stopping(100, at: .seconds(1))
        #expect(byItself.nextTime == .seconds(6))
        let hung = starting()
        _ = hung.hung(100, at: .seconds(1))
        #expect(hung.ready(100, at: .seconds(1)) == [])
        #expect(hung.timePassed(.seconds(2)) == [.send(SIGKILL, to: 100)])
        #expect(hung.ended(100, .signal(SIGKILL), at: .seconds(2)).first == .report(pid: 100, .hang))
    }

    @Test func whoTakesOverFromTheDeadHasTheTimeOfAProgramToBeReady() {
        for startTime in [nil, Duration.seconds(90)] {
            let machine = Self.running(Self.policy(startTime: startTime))
            _ = machine.signaled(SIGUSR2, at: .zero)
            _ = machine.started(200, incarnation: 2, at: .seconds(1))
            _ = machine.ended(100, .signal(SIGSEGV), at: .seconds(2))
            #expect(machine.nextTime == startTime.map { .seconds(1) + $0 })
        }
    }

    @Test func ifTheOldOneDiesMeanwhileTheNewOneIsTheProgram() {
        let machine = Self.running()
        _ = machine.signaled(SIGUSR2, at: .zero)
        _ = machine.started(200, incarnation: 2, at: .zero)
        #expect(machine.ended(100, .signal(SIGSEGV), at: .zero) == [.report(pid: 100, .signal(SIGSEGV))])
        #expect(machine.current?.pid == 200)
        #expect(machine.ready(200, at: .zero) == [])
        #expect(machine.nextTime == nil)
    }

    @Test func aProgramThatIsExhaustedIsReplaced() {
        let machine = Self.running()
        #expect(machine.replacementWanted(by: 100, at: .zero) == [.start(incarnation: 2)])
        #expect(machine.replacementWanted(by: 100, at: .zero) == [])
        _ = machine.started(200, incarnation: 2, at: .zero)
        // It fails: tried again.
        _ = machine.ended(200, .signal(SIGSEGV), at: .zero)
        #expect(machine.nextTime == .seconds(1))
        #expect(machine.timePassed(.seconds(1)) == [.start(incarnation: 3)])
        _ = machine.started(300, incarnation: 3, at: .seconds(1))
        #expect(machine.ready(300, at: .seconds(2)).last == .retire(100))
        // The next one may want the same, at once.
        #expect(machine.replacementWanted(by: 300, at: .seconds(2)) == [.start(incarnation: 4)])
    }

    // MARK: Hangs

    @Test func whoHangsIsAskedWhatItDoesAndKilled() {
        let machine = Self.running()
        #expect(machine.hung(100, at: .seconds(1)) == [.say(.hung(pid: 100)), .send(SIGQUIT, to: 100)])
        #expect(machine.hung(100, at: .seconds(1)) == [])
        #expect(machine.timePassed(.seconds(2)) == [.send(SIGKILL, to: 100)])
        #expect(machine.ended(100, .signal(SIGKILL), at: .seconds(2)).first == .report(pid: 100, .hang))
    }

    // MARK: The first process of a container

    @Test func asInitItStartsNothingAgain() {
        for (cause, code) in [(ChildEnd.exit(7), Int32(7)), (.signal(SIGSEGV), 139)] {
            let machine = Self.running(Self.policy(isInit: true))
            #expect(machine.signaled(SIGUSR2, at: .zero).first?.isSay == true)
            #expect(machine.ended(100, cause, at: .zero) == [.report(pid: 100, cause), .exit(code)])
        }
        let useless = Self.running(Self.policy(isInit: true), isReady: false)
        #expect(useless.ended(100, .exit(64), at: .zero) == [.exit(64)])
    }

    // MARK: Random

    /// Whatever happens: at most one program, one successor; it ends only when it should, and never with a child left; somebody runs, or is
    /// to be started, as long as it has not ended.
    @Test(arguments: 0..<300) func whateverHappens(_ seed: Int) {
        var random = SplitMix(UInt64(seed))
        let machine = Subject(Self.policy(RestartIntensity(5, within: .seconds(10))))
        var now = Duration.zero
        var pids: [Int32] = []
        var lastPid: Int32 = 1
        var exitCode: Int32?
        /// How often each was told to stop, and the guard.
        var requests: [Int32: Int] = [:]
        var stops = 0
        func perform(_ actions: [Action]) {
            for action in actions {
                switch action {
                case .start(let incarnation):
                    if random.below(10) == 0 {
                        perform(machine.notStarted(ENOENT, at: now))
                    } else {
                        lastPid += 1
                        pids.append(lastPid)
                        perform(machine.started(lastPid, incarnation: incarnation, at: now))
                    }
                case .send(let signal, let pid):
                    #expect(pids.contains(pid), "seed \(seed)")
                    if signal == SIGTERM { requests[pid, default: 0] += 1 }
                case .retire(let pid):
                    #expect(pids.contains(pid), "seed \(seed)")
                    requests[pid, default: 0] += 1
                case .exit(let code):
                    #expect(exitCode == nil, "seed \(seed)")
                    exitCode = code
                case .closeSockets(let pid): #expect(pids == [pid], "seed \(seed)")
                case .report, .say: break
                }
            }
        }
        perform(machine.begin())
        for _ in 0..<200 where exitCode == nil {
            now += .milliseconds(random.below(2000))
            if let pid = pids.randomElement(using: &random) { machine.settled(pid) }
            switch random.below(9) {
            case 0, 1:
                if let next = machine.nextTime { now = max(now, next) }
                perform(machine.timePassed(now))
            case 2, 3: if let pid = pids.randomElement(using: &random) { perform(machine.ready(pid, at: now)) }
            case 4:
                guard let pid = pids.randomElement(using: &random) else { break }
                pids.removeAll { $0 == pid }
                let causes: [ChildEnd] = [.exit(1), .signal(SIGSEGV), .signal(SIGKILL), .exit(64), .exit(0)]
                perform(machine.ended(pid, causes[random.below(random.below(10) == 0 ? 5 : 3)], at: now))
            case 5: perform(machine.signaled(SIGUSR2, at: now))
            case 6: if let pid = pids.randomElement(using: &random) { perform(machine.hung(pid, at: now)) }
            case 7:
                if let pid = pids.randomElement(using: &random) { perform(machine.replacementWanted(by: pid, at: now)) }
            default:
                guard random.below(20) == 0 else { break }
                stops += 1
                perform(machine.signaled(SIGTERM, at: now))
            }
            // A second request forces: only who asks twice does that.
            #expect(stops > 1 || requests.values.allSatisfy { $0 == 1 }, "seed \(seed)")
            #expect(Set(machine.children.map(\.pid)) == Set(pids), "seed \(seed)")
            #expect(machine.children.count { $0.role == .current } <= 1, "seed \(seed)")
            #expect(machine.children.count { $0.role == .successor } <= 1, "seed \(seed)")
            if exitCode != nil {
                #expect(pids.isEmpty, "seed \(seed)")
            } else if !machine.isStopping {
                #expect(!machine.children.isEmpty || machine.nextStart != nil, "seed \(seed)")
            }
        }
    }
}

/// The machine, by reference: expectations call nothing that changes a value.
private final class Subject {
    private var machine: GuardMachine
    init(_ policy: GuardMachine.Policy) { machine = GuardMachine(policy) }

    typealias Actions = [GuardMachine.Action]
    var current: GuardMachine.Child? { machine.current }
    var children: [GuardMachine.Child] { machine.children }
    var nextTime: Duration? { machine.nextTime }
    var nextStart: Duration? { machine.nextStart }
    var isStopping: Bool { machine.isStopping }
    func begin() -> Actions { machine.begin() }
    func started(_ pid: Int32, incarnation: Int, at now: Duration) -> Actions {
        machine.started(pid, incarnation: incarnation, at: now)
    }
    func notStarted(_ error: Int32, at now: Duration) -> Actions { machine.notStarted(error, at: now) }
    func ready(_ pid: Int32, at now: Duration) -> Actions { machine.ready(pid, at: now) }
    func ended(_ pid: Int32, _ cause: ChildEnd, at now: Duration) -> Actions { machine.ended(pid, cause, at: now) }
    func replacementWanted(by pid: Int32, at now: Duration) -> Actions { machine.replacementWanted(by: pid, at: now) }
    func stopping(_ pid: Int32, at now: Duration) { machine.stopping(pid, at: now) }
    func settled(_ pid: Int32) { machine.settled(pid) }
    func lacksSomething(_ pid: Int32) { machine.lacksSomething(pid) }
    func hung(_ pid: Int32, at now: Duration) -> Actions { machine.hung(pid, at: now) }
    func signaled(_ signal: Int32, reachedAll: Bool = false, at now: Duration) -> Actions {
        machine.signaled(signal, reachedAll: reachedAll, at: now)
    }
    func timePassed(_ now: Duration) -> Actions { machine.timePassed(now) }
}

extension GuardMachine.Action {
    fileprivate var isExit: Bool { if case .exit = self { true } else { false } }
    fileprivate var isSay: Bool { if case .say = self { true } else { false } }
}

/// Random numbers from a seed (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators").
struct SplitMix: RandomNumberGenerator {
    private var state: UInt64
    init(_ seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var word = state
        word = (word ^ (word >> 30)) &* 0xbf58_476d_1ce4_e5b9
        word = (word ^ (word >> 27)) &* 0x94d0_49bb_1331_11eb
        return word ^ (word >> 31)
    }
    mutating func below(_ limit: Int) -> Int { Int.random(in: 0..<limit, using: &self) }
}
