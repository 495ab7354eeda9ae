// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Testing

@testable import Executor

/// Broken files must give errors, never crashes. hwloc itself complains on standard error; that is fine.
@Suite struct TopologyFuzzTests {
    private static let builtIn = Array(
        """
        <?xml version="1.0" encoding="UTF-8"?>
        <!DOCTYPE topology SYSTEM "hwloc2.dtd">
        <topology version="2.0">
          <object type="Machine" os_index="0" cpuset="0xf" complete_cpuset="0xf" allowed_cpuset="0xf" nodeset="0x1" \
        complete_nodeset="0x1" allowed_nodeset="0x1" gp_index="1">
            <object type="NUMANode" os_index="0" cpuset="0xf" complete_cpuset="0xf" nodeset="0x1" complete_nodeset="0x1" \
        gp_index="2" local_memory="1024"/>
            <object type="Core" os_index="0" cpuset="0x3" complete_cpuset="0x3" nodeset="0x1" complete_nodeset="0x1" gp_index="3">
              <object type="PU" os_index="0" cpuset="0x1" complete_cpuset="0x1" nodeset="0x1" complete_nodeset="0x1" gp_index="4"/>
              <object type="PU" os_index="1" cpuset="0x2" complete_cpuset="0x2" nodeset="0x1" complete_nodeset="0x1" gp_index="5"/>
            </object>
            <object type="Core" os_index="1" cpuset="0xc" complete_cpuset="0xc" nodeset="0x1" complete_nodeset="0x1" gp_index="6">
              <object type="PU" os_index="2" cpuset="0x4" complete_cpuset="0x4" nodeset="0x1" complete_nodeset="0x1" gp_index="7"/>
              <object type="PU" os_index="3" cpuset="0x8" complete_cpuset="0x8" nodeset="0x1" complete_nodeset="0x1" gp_index="8"/>
            </object>
          </object>
        </topology>
        """.utf8
    )

    /// Documents to break: small ones, so that a mutation hits something.
    private static let corpus: [[UInt8]] =
        [builtIn]
        + TopologyFiles.names.compactMap { name in
            try? FileTree.bytes(ofFile: "\(TopologyFiles.directory)/\(name)", limit: 40_000)
        }

    @Test func unbrokenDocumentIsRead() throws {
        let topology = try Topology(xml: Self.builtIn, name: "built-in")
        expectSound(topology)
        #expect(topology.cores.count == 2)
    }

    @Test func everyPrefixIsAnErrorOrAMachine() {
        for length in stride(from: 0, to: Self.builtIn.count, by: max(1, 11 - RandomRun.scale)) {
            read(Array(Self.builtIn[..<length]))
        }
    }

    @Test func mangledDocumentsAreErrorsOrMachines() {
        var random = SeededGenerator(seed: RandomRun.seed)
        var machines = 0
        for _ in 0..<(40 * RandomRun.scale) {
            var document = Self.corpus.randomElement(using: &random) ?? Self.builtIn
            for _ in 0..<Int.random(in: 1...3, using: &random) { mangle(&document, &random) }
            if read(document) { machines += 1 }
        }
        print("topology tests: \(machines) of \(40 * RandomRun.scale) mangled documents were machines")
    }

    @Test func randomSyntheticDescriptionsAreErrorsOrMachines() throws {
        var random = SeededGenerator(seed: RandomRun.seed &+ 1)
        let words = [
            "pack", "numa", "l3", "l2", "core", "pu", "group", "machine", ":", ":", ":2", ":1", " ", " ", "[", "]", "(",
            ")",
            "(memory=1GB)", "(indexes=1,0)", "2", "-", "0", "x", "l2:2", "core:2 ", "pu:2", "pack:2 ", "die:2 ",
            "\u{e9}",
        ]
        for _ in 0..<(60 * RandomRun.scale) {
            let text = (0..<Int.random(in: 0...9, using: &random)).map { _ in words.randomElement(using: &random) ?? ""
            }.joined()
            do throws(TopologyError) {
                expectSound(try Topology(synthetic: text))
            } catch {
                #expect(error.code == .invalidSynthetic || error.code == .noUsableProcessor)
            }
        }
    }

    /// Returns whether the document was accepted.
    @discardableResult
    private func read(_ document: [UInt8]) -> Bool {
        save(document)
        do throws(TopologyError) {
            let topology = try Topology(xml: document, name: "mangled.xml")
            expectSound(topology)
            let plan = try Placement(topology)
            expectValid(plan, of: topology)
            return true
        } catch {
            #expect([.invalidXML, .noUsableProcessor, .invalidWorkerCount].contains(error.code), "\(error)")
            return false
        }
    }

    /// With `TOPOLOGY_FUZZ_CASE=path`, keeps the document in hand, so that a crash can be looked at.
    private func save(_ document: [UInt8]) {
        guard let path = getenv("TOPOLOGY_FUZZ_CASE"), let file = fopen(path, "w") else { return }
        fwrite(document, 1, document.count, file)
        fclose(file)
    }

    private func mangle(_ document: inout [UInt8], _ random: inout SeededGenerator) {
        guard document.count > 8 else { return }
        let at = Int.random(in: 0..<document.count, using: &random)
        switch Int.random(in: 0..<8, using: &random) {
        case 0: document.removeLast(document.count - at)
        case 1: document[at] = UInt8.random(in: 0...255, using: &random)
        case 2: document.removeSubrange(at..<min(document.count, at + Int.random(in: 1...200, using: &random)))
        case 3, 4, 5: exchangeValue(&document, at, &random)
        case 6: moveLine(&document, &random, removing: true)
        default: moveLine(&document, &random, removing: false)
        }
    }

    /// Replaces the quoted value after a position: the document stays well formed, and contradicts itself.
    private func exchangeValue(_ document: inout [UInt8], _ at: Int, _ random: inout SeededGenerator) {
        let quote = UInt8(ascii: "\"")
        guard let equals = document[at...].firstIndex(of: UInt8(ascii: "=")), equals + 2 < document.count,
            let end = document[(equals + 2)...].firstIndex(of: quote)
        else { return }
        let values = [
            "", "0", "-1", "1", "7", "99999999999999999999", "0xf...f", "0x0", "0xffffffff,0xffffffff", "0x1", "0x2",
            ",", "PU",
            "Core", "NUMANode", "Machine", "Package", "L2Cache", "L3Cache", "Group", "MemCache", "Misc", "PCIDev",
            "2.0", "1.0",
            "4294967295", "2147483648", "&#0;", "&amp", "%s%n", "x",
        ]
        // Flipping one digit of a number or set more often leaves a machine that is only a little wrong.
        if Bool.random(using: &random), let digit = document[(equals + 2)..<end].indices.randomElement(using: &random) {
            document[digit] = Array("0123456789abcdef".utf8).randomElement(using: &random) ?? 0
            return
        }
        let value = values.randomElement(using: &random) ?? ""
        document.replaceSubrange((equals + 2)..<end, with: Array(value.utf8))
    }

    /// Removes a line, or repeats it elsewhere.
    private func moveLine(_ document: inout [UInt8], _ random: inout SeededGenerator, removing: Bool) {
        var lines = document.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).map(Array.init)
        let from = Int.random(in: 0..<lines.count, using: &random)
        if removing {
            lines.remove(at: from)
        } else {
            lines.insert(lines[from], at: Int.random(in: 0..<lines.count, using: &random))
        }
        document = Array(lines.joined(separator: [UInt8(ascii: "\n")]))
    }
}
