// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CFort
import Glibc
import LightProc

/// The memory that a program shares with whoever looks at it after its death. It stays mapped as long as the program runs.
struct ProcessRecord: @unchecked Sendable {
    // Sendable: what several threads write is atomic; the rest is written before other threads are there, by the writer of
    // reports alone, or by the handler once.
    let pointer: UnsafeMutablePointer<fort_record>

    /// Memory that a guard makes for one: also of a later release, which may have more to say.
    static let room = 512 * 1024

    static var byteCount: Int { MemoryLayout<fort_record>.size }

    /// Maps a record that a descriptor names, which may be closed then. Nil if it is none of ours.
    static func map(_ descriptor: CInt) -> ProcessRecord? {
        var status = stat()
        // What is shorter could be mapped, but not read.
        guard fstat(descriptor, &status) == 0, status.st_size >= byteCount else { return nil }
        let memory = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0)
        guard let memory, memory != MAP_FAILED else { return nil }
        return ProcessRecord(pointer: memory.assumingMemoryBound(to: fort_record.self))
    }

    /// One that ends with the program: where nobody looks at it.
    static func unshared() -> ProcessRecord? {
        let memory = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)
        guard let memory, memory != MAP_FAILED else { return nil }
        return ProcessRecord(pointer: memory.assumingMemoryBound(to: fort_record.self))
    }

    /// Takes it out of memory again. Nobody may use it then.
    func unmap() { munmap(pointer, Self.byteCount) }

    /// Whether a program has begun to fill it, with the same layout.
    var isValid: Bool {
        pointer.pointee.magic == UInt32(fort_recordMagic) && pointer.pointee.version == UInt32(fort_recordVersion)
            && pointer.pointee.byteCount == UInt64(Self.byteCount) && pointer.pointee.pid > 0
    }

    /// Whether the program that runs has filled it.
    var hasBegun: Bool { isValid && pointer.pointee.pid == getpid() && pointer.pointee.moduleCount > 0 }

    /// Whether no program has begun to fill it: one that ended before it came to that.
    var isUnbegun: Bool { pointer.pointee.magic == 0 }

    /// Whether a program of another release fills it, with another layout: nothing can be read from it.
    var isForeign: Bool { !isUnbegun && !isValid }

    // MARK: By the guard

    /// Whether it knows more of the program's death than its wait status says.
    var saysMore: Bool { isValid && LifeRecord(self).death != nil }

    /// How often the program's executor has given a sign of life.
    var beats: UInt64 { isValid ? fort_countBeats(pointer) : 0 }

    /// After how long without one it hangs; nil: nobody looks.
    var hangTime: Duration? {
        // Of another release it may have another layout.
        let time = isValid ? fort_getHangTime(pointer) : 0
        return time == 0 ? nil : .nanoseconds(Int64(clamping: time))
    }

    // MARK: By the program whose record it is

    /// Says who the program is, and where its instructions are. Once, while the calling thread is the only one that knows the record.
    func begin(program: String = ProcessRecord.programName) {
        pointer.pointee.version = UInt32(fort_recordVersion)
        pointer.pointee.byteCount = UInt64(Self.byteCount)
        pointer.pointee.pid = getpid()
        pointer.pointee.startTime = WallTime.now.nanoseconds
        if pointer.pointee.incarnation == 0 { pointer.pointee.incarnation = 1 }
        Self.withText(program) { fort_setProgram(pointer, $0, $1) }
        refreshModules()
        pointer.pointee.magic = UInt32(fort_recordMagic)
    }

    /// The program has come so far.
    func enter(_ stage: ProgramState.Stage) {
        fort_enterStage(pointer, stage.rawValue)
        note("the program is \(stage)")
    }

    /// The last words, cut to what there is room for.
    func leave(_ lastWords: String) {
        Self.withText(lastWords) { fort_setLastWords(pointer, $0, $1) }
        note(lastWords)
    }

    /// Adds an event to the flight recorder; only the first 111 bytes are kept. Any thread, no locks; costs a copy.
    func note(_ text: String) { Self.withText(text) { fort_note(pointer, $0, $1) } }

    /// So many traps were contained, which have leaked so much.
    func count(traps: Int, leaked: Int) { fort_countTraps(pointer, UInt64(traps), UInt64(leaked)) }

    /// Looks again where instructions are, if one of these lies nowhere that is known. By one thread at a time.
    func refreshModules(for addresses: [UInt]) {
        let modules = self.modules
        let isKnown = addresses.allSatisfy { address in
            modules.contains { $0.range.contains(UInt64(address)) } || !LoadedObject.exists(at: address)
        }
        if !isKnown { refreshModules() }
    }

    /// Adds what is loaded and not known; what lies where something else was takes its place.
    private func refreshModules() {
        for entry in ObjectList().entries where entry.object.start < entry.object.end {
            let range = UInt64(entry.object.start)..<UInt64(entry.object.end)
            let path = entry.path.isEmpty ? Self.executable : entry.path
            let known = self.modules
            let place = known.firstIndex { $0.range.overlaps(range) } ?? known.count
            if place < known.count, known[place].range == range, known[place].path == path { continue }
            guard place < Int(fort_moduleLimit) else { return }
            // safety: the place is one of `fort_moduleLimit`.
            let module = fort_moduleToFill(pointer, UInt32(place))!
            module.pointee.start = range.lowerBound
            module.pointee.end = range.upperBound
            module.pointee.bias = UInt64(entry.bias)
            Self.withText(path) { fort_setPathOfModule(module, $0, $1) }
            if place == known.count { pointer.pointee.moduleCount = UInt32(place + 1) }
        }
    }

    /// The file of the program that runs.
    static let executable: String = {
        guard let path = realpath("/proc/self/exe", nil) else { return "/proc/self/exe" }
        defer { free(path) }
        return String(cString: path)
    }()

    /// What the program was called as, without the directory.
    static var programName: String {
        Fort.programName.split(separator: "/").last.map(String.init) ?? "program"
    }

    // MARK: Of whoever looks at it

    /// Where the instructions of a file are.
    struct Module: Sendable, Equatable {
        let range: Range<UInt64>
        let bias: UInt64
        let path: String
    }

    var modules: [Module] {
        (0..<min(pointer.pointee.moduleCount, UInt32(fort_moduleLimit))).compactMap { index in
            // safety: the index is below the limit.
            guard let module = fort_moduleOfRecord(pointer, index), module.pointee.start < module.pointee.end else {
                return nil
            }
            return Module(
                range: module.pointee.start..<module.pointee.end,
                bias: module.pointee.bias,
                path: Self.text(fort_pathOfModule(module), 232)
            )
        }
    }

    /// What the flight recorder has, oldest first. Those that were being written are left out.
    var events: [FlightEvent] {
        var text = [CChar](repeating: 0, count: Int(fort_eventTextSize))
        var events: [FlightEvent] = []
        for place in 0..<UInt32(fort_eventCount) {
            var time: Int64 = 0
            let ticket = fort_readEvent(pointer, place, &time, &text)
            guard ticket > 0 else { continue }
            let words = text.withUnsafeBufferPointer { Self.text($0.baseAddress, $0.count) }
            events.append(FlightEvent(number: ticket, time: WallTime(nanoseconds: time), text: words))
        }
        return events.sorted { $0.number < $1.number }
    }

    /// Text of a field, up to the first zero; what is not UTF-8 is replaced.
    static func text(_ field: UnsafePointer<CChar>?, _ size: Int) -> String {
        guard let field else { return "" }
        // safety: a field of the record is `size` bytes long.
        let bytes = UnsafeRawBufferPointer(start: field, count: size)
        return String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }

    private static func withText(_ text: String, _ body: (UnsafePointer<CChar>, Int) -> Void) {
        var text = text
        text.withUTF8 { bytes in
            guard let start = bytes.baseAddress else { return body("", 0) }
            // safety: bytes of either sign.
            start.withMemoryRebound(to: CChar.self, capacity: bytes.count) { body($0, bytes.count) }
        }
    }
}

/// Something that happened in a program, as its flight recorder has it.
struct FlightEvent: Sendable, Equatable {
    /// Which of all it was, counted from 1.
    let number: UInt64
    let time: WallTime
    let text: String
}
