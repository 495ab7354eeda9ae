// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import LightProc
import Testing

@Suite struct UnwindingOriginTests {
    @Test(
        .withTheFunctionsOfTheCLibrary,
        arguments: [
            ("malloc", .allocator), ("free", .allocator), ("memalign", .allocator), ("posix_memalign", .allocator),
            ("dlsym", .loader), ("dl_iterate_phdr", .loader), ("abort", .libcAbort), ("raise", .libcAbort),
            ("pthread_kill", .libcAbort), ("qsort", .libc), ("printf", .libc),
        ] as [(String, FrameOrigin)]
    ) func aFunctionOfTheCLibraryHasItsOrigin(_ name: String, _ origin: FrameOrigin) {
        #expect(CodeRegions().origin(of: UInt(bitPattern: dlsym(nil, name)) + 1) == origin)
    }

    @Test func addressesOutsideOfAllObjectsAreUnmapped() {
        let regions = CodeRegions()
        #expect(regions.origin(of: 0) == .unmapped)
        #expect(regions.origin(of: 16) == .unmapped)
        #expect(regions.origin(of: .max) == .unmapped)
    }

    @Test func theMakersOfMetadataAreKnown() {
        guard let address = dlsym(nil, "swift_getGenericMetadata") else { return }
        #expect(CodeRegions().origin(of: UInt(bitPattern: address) + 1) == .swiftMetadata)
    }

    @Test(arguments: ["swift_task_cancel", "swift_task_escalate"])
    func whereHandlersOfATaskRunIsKnown(_ name: String) throws {
        let address = try #require(dlsym(nil, name))
        #expect(CodeRegions().origin(of: UInt(bitPattern: address) + 1) == .swiftTaskStatus)
    }

    struct Summary: Sendable {
        let frames: [FrameOrigin]
        let abortCaller: FrameOrigin?
        let mayHoldSharedLock: Bool
    }

    @Test(arguments: [
        Summary(frames: [], abortCaller: nil, mayHoldSharedLock: false),
        Summary(frames: [.program, .libc], abortCaller: nil, mayHoldSharedLock: false),
        Summary(
            frames: [.libc, .libcAbort, .libcAbort, .swiftRuntime, .program],
            abortCaller: .swiftRuntime,
            mayHoldSharedLock: false
        ),
        Summary(frames: [.libc, .libcAbort, .libc, .allocator, .program], abortCaller: .libc, mayHoldSharedLock: true),
        Summary(frames: [.libcAbort, .program], abortCaller: .program, mayHoldSharedLock: false),
        // An abort further out is not why the thread stands here.
        Summary(frames: [.swiftRuntime, .libcAbort, .program], abortCaller: nil, mayHoldSharedLock: false),
        Summary(frames: [.libc, .program], abortCaller: nil, mayHoldSharedLock: false),
        Summary(frames: [.program, .swiftOnce], abortCaller: nil, mayHoldSharedLock: true),
        Summary(frames: [.program, .swiftMetadata], abortCaller: nil, mayHoldSharedLock: true),
        Summary(frames: [.program, .swiftTaskStatus], abortCaller: nil, mayHoldSharedLock: true),
        Summary(frames: [.program, .loader], abortCaller: nil, mayHoldSharedLock: true),
    ]) func theOriginsOfAStackAreSummarised(_ example: Summary) {
        var origins = StackOrigins()
        for frame in example.frames { origins.add(frame) }
        #expect(origins.abortCaller == example.abortCaller)
        #expect(origins.mayHoldSharedLock == example.mayHoldSharedLock)
        for origin in FrameOrigin.allCases { #expect(origins.contains(origin) == example.frames.contains(origin)) }
    }

    @Test func spansAnswerForWhatTheyCover() {
        var spans = CodeSpans()
        spans.insert(20..<30, .libc)
        spans.insert(10..<15, .loader)
        // Only what is not taken yet.
        spans.insert(13..<25, .program)
        let expected: [(UInt, FrameOrigin?)] = [
            (9, nil), (10, .loader), (14, .loader), (15, .program), (19, .program), (20, .libc), (29, .libc), (30, nil),
            (.max, nil),
        ]
        for (address, origin) in expected { #expect(spans.origin(of: address) == origin, "\(address)") }
    }
}
