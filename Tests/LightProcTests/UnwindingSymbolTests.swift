// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import LightProc
import Testing

@Suite struct UnwindingSymbolTests {
    @Test func namesOfTheLinkerBecomeThoseOfTheSource() {
        #expect(SwiftName.demangled("$sSS") == "Swift.String")
        #expect(SwiftName.demangled("malloc") == "malloc")
        #expect(SwiftName.demangled("") == "")
    }

    @Test(.withTheFunctionsOfTheCLibrary)
    func anExportedFunctionIsNamed() {
        let symbolizer = Symbolizer()
        let address = UInt(bitPattern: dlsym(nil, "qsort"))
        let symbol = symbolizer.symbol(at: address + 2)
        #expect(symbol.mangledName == "qsort")
        #expect(symbol.offset == 2)
        #expect(symbol.object?.contains("libc.so") == true)
        // Debug information of the C library, if it is installed, calls it __GI_qsort.
        #expect(symbol.locations.last?.function.hasSuffix("qsort") == true)
        #expect(symbol.runtimeFailure == nil)
    }

    @Test func aWildAddressHasNoName() {
        let symbol = Symbolizer().symbol(at: 16)
        #expect(symbol.object == nil)
        #expect(symbol.mangledName == nil)
        #expect(symbol.locations.isEmpty)
    }

    @Test func framesOfTheProgramHaveTheirPlaceInTheSource() async {
        await #expect(processExitsWith: .success) {
            let thread = FaultedThread.run { raiseHere() }
            let symbolizer = Symbolizer()
            let locations = thread.frames().flatMap { symbolizer.symbol(of: $0).locations }
            let place = locations.first { $0.function.contains("raiseHere") }
            #expect(place != nil)
            guard symbolizer.hasDebugInformation else { return }
            #expect(place?.file?.hasSuffix("UnwindingSymbolTests.swift") == true)
            #expect(place?.line == raiseLine)
        }
    }

    // The compiler traps on overflow without a message in debug builds too.
    @Test func anOverflowIsNamedByTheDebugInformation() async {
        await #expect(processExitsWith: .success) {
            expectFailure("arithmetic overflow", overflow)
        }
    }

    #if !DEBUG
    @Test func anIndexOutOfRangeIsNamedByTheDebugInformation() async {
        await #expect(processExitsWith: .success) {
            expectFailure("Index out of range", indexOutOfRange)
        }
    }

    @Test func aNilIsNamedByTheDebugInformation() async {
        await #expect(processExitsWith: .success) {
            expectFailure("Unexpectedly found nil while unwrapping an Optional value", unwrapNil)
        }
    }

    @Test func aDivisionByZeroIsNamedByTheDebugInformation() async {
        await #expect(processExitsWith: .success) {
            expectFailure("Division by zero", divideByZero)
        }
    }

    @Test func aPreconditionIsNamedByTheDebugInformation() async {
        await #expect(processExitsWith: .success) {
            expectFailure("precondition failure", failPrecondition)
        }
    }
    #endif
}

private func expectFailure(_ words: String, _ body: @escaping @Sendable () -> Void) {
    let thread = FaultedThread.run(body)
    let symbolizer = Symbolizer()
    #expect(thread.signal == SIGILL || thread.signal == SIGTRAP)
    guard symbolizer.hasDebugInformation else { return }
    #expect(symbolizer.runtimeFailure(at: thread.registers.programCounter) == words)
    // Not the trap's name, but the place in this file where it happened.
    let locations = symbolizer.symbol(at: thread.registers.programCounter).locations
    #expect(locations.contains { $0.file?.hasSuffix("UnwindingSymbolTests.swift") == true })
    #expect(!locations.contains { $0.function.contains("runtime failure") })
}

// Outside of the macros, whose expansions are files of their own for the debug information.
@Sendable private func overflow() { _ = opaque(opaque(Int.max) + opaque(1)) }
#if !DEBUG
@Sendable private func indexOutOfRange() { _ = opaque(opaque([1, 2, 3])[opaque(5)]) }
@Sendable private func unwrapNil() { _ = opaque(opaque(nil as Int?)!) }
@Sendable private func divideByZero() { _ = opaque(opaque(1) / opaque(0)) }
@Sendable private func failPrecondition() { precondition(opaque(1) == 2, "on purpose") }
#endif

private let raiseLine = #line + 2
@inline(never) private func raiseHere() {
    raise(SIGUSR1)
    _ = opaque(1)
}
