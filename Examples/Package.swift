// swift-tools-version: 6.2
// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import PackageDescription

let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
]

/// Programs that show one thing each and end by themselves; `scripts/test-examples.sh` runs them.
let programs = [
    "RoundRobinDispatcher",
    "Distributor",
    "BroadcastMessage",
    "SendRecv",
    "Fibonacci",
    "FibonacciTyped",
    "MessageHandlerMultipleTypes",
    "PrimeNumbers",
    "ParallelComputation",
    "ScalingGroups",
    "Callbacks",
    "LinkedStages",
    "Middleware",
    "HummingbirdServer",
    "GuardedHummingbird",
    "NIOServer",
    "GroupOfServices",
    "SimpleProgram",
    "RedundantProgram",
    "UndyingMain",
    "TCPServer",
    "ThreadedTCPServer",
    "CommandServer",
]

let services: Target.Dependency = .product(name: "RuntimeServices", package: "bastion")
let lifecycle: Target.Dependency = .product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let sockets: Target.Dependency = .product(name: "NIOPosix", package: "swift-nio")
let arguments: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")

/// What some of them use besides Runtime.
let extras: [String: [Target.Dependency]] = [
    "HummingbirdServer": [
        services, "Loopback", sockets, logging, .product(name: "Hummingbird", package: "hummingbird"),
    ],
    "GuardedHummingbird": [
        services, lifecycle, "Loopback", sockets, logging, .product(name: "Hummingbird", package: "hummingbird"),
        .product(name: "NIOCore", package: "swift-nio"),
    ],
    "NIOServer": [services, lifecycle, "Loopback", sockets, .product(name: "NIOCore", package: "swift-nio")],
    "GroupOfServices": [services, lifecycle, logging],
    "TCPServer": ["Loopback"],
    "ThreadedTCPServer": ["Loopback"],
    "CommandServer": ["Loopback", arguments],
]

let package = Package(
    name: "bastion-examples",
    products: [
        .executable(name: "UndyingServer", targets: ["UndyingServer"]),
        .executable(name: "StockServer", targets: ["StockServer"]),
        .executable(name: "Topology", targets: ["Topology"]),
    ] + programs.map { .executable(name: $0, targets: [$0]) },
    dependencies: [
        .package(name: "bastion", path: ".."),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.6.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.6.0"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.15.0", traits: []),
    ],
    targets: [
        .target(name: "Loopback", swiftSettings: settings),
        .target(name: "ServerRoutes", swiftSettings: settings),
        .target(
            name: "ServerFrontEnd",
            dependencies: [
                "ServerRoutes",
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: settings
        ),
        .executableTarget(
            name: "UndyingServer",
            dependencies: [
                "ServerFrontEnd", "ServerRoutes",
                .product(name: "Runtime", package: "bastion"),
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: settings
        ),
        .executableTarget(
            name: "StockServer",
            dependencies: [
                "ServerFrontEnd", "ServerRoutes",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: settings
        ),
        .executableTarget(
            name: "Topology",
            dependencies: [
                .product(name: "Executor", package: "bastion"),
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "ServerRoutesTests",
            dependencies: ["ServerRoutes"],
            swiftSettings: settings
        ),
        .testTarget(
            name: "ServerFrontEndTests",
            dependencies: [
                "ServerFrontEnd", "ServerRoutes",
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOEmbedded", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
            ],
            swiftSettings: settings
        ),
        // They run the program, which is built for them; nothing of it is imported.
        .testTarget(name: "TopologyTests", dependencies: ["Topology"], swiftSettings: settings),
    ]
        + programs.map { name in
            .executableTarget(
                name: name,
                dependencies: [.product(name: "Runtime", package: "bastion")] + extras[name, default: []],
                swiftSettings: settings
            )
        }
)
