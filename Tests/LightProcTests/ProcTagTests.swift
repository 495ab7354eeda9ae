// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

@testable import LightProc

@Suite struct ProcTagTests {
    @Test(arguments: [1, 63, 1 << 48, (1 << 49) - 1] as [UInt64], [true, false])
    func partsDoNotMix(id: UInt64, isReactive: Bool) {
        var tag = ProcTag(id: ProcID(rawValue: id), isReactive: isReactive)
        #expect(tag.priority == .normal)
        #expect(tag.worker == nil)
        for priority in ProcPriority.allCases {
            for worker in [0, 1, 511, 1022] {
                tag.priority = priority
                tag.rawValue = tag.rawValue & ~ProcTag.workerMask | ProcTag.home(ofWorker: worker)
                #expect(tag.id.rawValue == id)
                #expect(tag.isReactive == isReactive)
                #expect(tag.priority == priority)
                #expect(tag.worker == worker)
            }
        }
    }

    @Test func aWorkerThatDoesNotFitIsNotRemembered() {
        #expect(ProcTag.home(ofWorker: 1023) == 0)
        #expect(ProcTag(rawValue: ProcTag.home(ofWorker: 4095)).worker == nil)
    }

    @Test func aProcessIsAtHomeByPriorityAndWhereItCountsByWorker() {
        func fits(_ tag: UInt, _ home: UInt, _ compares: Bool) -> Bool {
            (tag ^ home) & ProcTag.homeMask(comparesWorkers: compares) == 0
        }
        let here = ProcTag.home(ofWorker: 3)
        let there = ProcTag.home(ofWorker: 4)
        var urgent = ProcTag(rawValue: here)
        urgent.priority = .high
        #expect(fits(here, here, true))
        #expect(!fits(there, here, true))
        #expect(fits(there, here, false))
        #expect(!fits(urgent.rawValue, here, true))
        #expect(!fits(urgent.rawValue, here, false))
        // Nobody ran it yet: not at home where that counts.
        #expect(!fits(0, here, true))
    }

    @Test func theNumberOfAProcessStaysWhenItsPriorityChanges() {
        let proc = LightProc.async(on: HandScheduler()) { _ in }
        let id = proc.id
        for priority in ProcPriority.allCases {
            proc.priority = priority
            #expect(proc.priority == priority)
            #expect(proc.id == id)
            #expect(!proc.isReactive)
        }
        proc.close()
    }
}
