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

let package = Package(
    name: "bastion",
    products: [
        .library(name: "LightProc", targets: ["LightProc"]),
        .library(name: "Executor", targets: ["Executor"]),
        .library(name: "Supervision", targets: ["Supervision"]),
        .library(name: "Fort", targets: ["Fort"]),
        .library(name: "Runtime", targets: ["Runtime"]),
        .library(name: "RuntimeServices", targets: ["RuntimeServices"]),
        .library(name: "RuntimeTestKit", targets: ["RuntimeTestKit"]),
        .executable(name: "otp-conformance", targets: ["otp-conformance"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-log", from: "1.6.0"),
        // For RuntimeServices alone: not built for who does not use that.
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.6.0"),
    ],
    targets: [
        .systemLibrary(
            name: "CHwloc",
            pkgConfig: "hwloc",
            providers: [.apt(["libhwloc-dev"])]
        ),
        .systemLibrary(
            name: "CNuma",
            pkgConfig: "numa",
            providers: [.apt(["libnuma-dev"])]
        ),
        .target(name: "CLightProc"),
        .target(name: "CFort", dependencies: ["CLightProc"]),
        .target(name: "LightProc", dependencies: ["CLightProc"], swiftSettings: settings),
        .target(
            name: "Executor",
            dependencies: ["CLightProc", "LightProc", "CHwloc", "CNuma"],
            swiftSettings: settings
        ),
        .target(
            name: "Supervision",
            dependencies: ["LightProc", "Executor", .product(name: "Logging", package: "swift-log")],
            swiftSettings: settings
        ),
        .target(
            name: "Fort",
            dependencies: [
                "CFort", "LightProc", "Executor", "Supervision", .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: settings
        ),
        .target(
            name: "Runtime",
            dependencies: ["LightProc", "Executor", "Supervision", "Fort"],
            swiftSettings: settings
        ),
        .target(
            name: "RuntimeServices",
            dependencies: [
                "LightProc", "Supervision",
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "ServiceLifecycleTestKit", package: "swift-service-lifecycle"),
            ],
            swiftSettings: settings
        ),
        .target(
            name: "RuntimeTestKit",
            dependencies: ["LightProc", "Executor", "Supervision", .product(name: "Logging", package: "swift-log")],
            swiftSettings: settings
        ),
        // Runs scenarios of OTP's supervisor on ours; see Tests/OTPConformance/README.md.
        .executableTarget(
            name: "otp-conformance",
            dependencies: ["LightProc", "Executor", "Supervision", .product(name: "Logging", package: "swift-log")],
            path: "Tests/OTPConformance/Program",
            swiftSettings: settings
        ),
        .testTarget(
            name: "OTPConformanceTests",
            dependencies: ["otp-conformance"],
            path: "Tests/OTPConformance/Tests",
            swiftSettings: settings
        ),
        // What several of the tests use.
        .target(
            name: "TestSupport",
            dependencies: ["LightProc", "Executor"],
            path: "Tests/TestSupport",
            swiftSettings: settings
        ),
        .testTarget(name: "LightProcTests", dependencies: ["LightProc"], swiftSettings: settings),
        .testTarget(name: "ExecutorTests", dependencies: ["Executor", "TestSupport"], swiftSettings: settings),
        .testTarget(
            name: "SupervisionTests",
            dependencies: ["Supervision", "TestSupport"],
            swiftSettings: settings
        ),
        // A program that FortTests starts, kills and starts again.
        .executableTarget(
            name: "fort-fixture",
            dependencies: ["LightProc", "Supervision", "Fort", "TestSupport"],
            path: "Tests/FortFixture",
            swiftSettings: settings
        ),
        .testTarget(
            name: "FortTests",
            dependencies: ["Fort", "fort-fixture", "TestSupport"],
            swiftSettings: settings
        ),
        .testTarget(name: "RuntimeTests", dependencies: ["Runtime"], swiftSettings: settings),
        .testTarget(
            name: "RuntimeServicesTests",
            dependencies: [
                "RuntimeServices", "TestSupport",
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ],
            swiftSettings: settings
        ),
        .testTarget(name: "RuntimeTestKitTests", dependencies: ["RuntimeTestKit"], swiftSettings: settings),
        // The sources under test are symbolic links: there they are compiled with the model checker's atomics.
        .testTarget(name: "ModelTests", swiftSettings: settings + [.define("MODEL_CHECKING")]),
    ]
)
