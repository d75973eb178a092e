SELECT
  COUNTIF(
    (
      `t7`.`day` > DATE(2026, 8, 31)
    )
    AND (
      `t7`.`has_item` IS NOT NULL
    )
    AND (
      `t7`.`has_query` IS NOT NULL
    )
  ) AS `kept`,
  COUNTIF(NOT (
    `t7`.`day` > DATE(2026, 8, 31)
  )) AS `already_counted`,
  COUNTIF((
    `t7`.`day` > DATE(2026, 8, 31)
  ) AND NOT (
    `t7`.`has_item` IS NOT NULL
  )) AS `unknown_item`,
  COUNTIF(
    (
      `t7`.`day` > DATE(2026, 8, 31)
    )
    AND (
      `t7`.`has_item` IS NOT NULL
    )
    AND NOT (
      `t7`.`has_query` IS NOT NULL
    )
  ) AS `unknown_query`,
  MAX(`t7`.`day`) AS `last_day`
FROM (
  SELECT
    `t2`.`query`,
    `t2`.`item_id`,
    `t2`.`impressions`,
    `t2`.`clicks`,
    `t2`.`clients`,
    `t2`.`day`,
    `t2`.`corrected_impressions`,
    `t2`.`corrected_clicks`,
    `t4`.`item_id` AS `item_id_right`,
    `t4`.`has_item`,
    `t6`.`query` AS `query_right`,
    `t6`.`has_query`
  FROM `interactions` AS `t2`
  LEFT OUTER JOIN (
    SELECT
      `t1`.`name` AS `item_id`,
      TRUE AS `has_item`
    FROM `texts` AS `t1`
    WHERE
      `t1`.`is_item`
  ) AS `t4`
    ON `t2`.`item_id` = `t4`.`item_id`
  LEFT OUTER JOIN (
    SELECT
      `t1`.`name` AS `query`,
      TRUE AS `has_query`
    FROM `texts` AS `t1`
    WHERE
      NOT (
        `t1`.`is_item`
      )
  ) AS `t6`
    ON `t2`.`query` = `t6`.`query`
) AS `t7`;

CREATE OR REPLACE TABLE `counts` AS
SELECT
  `t10`.`query`,
  `t10`.`item_id`,
  SUM(`t10`.`impressions`) AS `impressions`,
  SUM(`t10`.`clicks`) AS `clicks`,
  MAX(`t10`.`clients`) AS `clients`,
  SUM(`t10`.`looks`) AS `looks`,
  SUM(`t10`.`credit`) AS `credit`
FROM (
  SELECT
    *
  FROM (
    SELECT
      `t6`.`query`,
      `t6`.`item_id`,
      `t6`.`impressions`,
      `t6`.`clicks`,
      `t6`.`clients`,
      (
        CAST(ROUND(ieee_divide(`t6`.`looks` - (
          MOD(`t6`.`looks`, 1000000000)
        ), 1000000000), 0) AS INT64) * `t6`.`kept`
      ) + CAST(ROUND(
        ieee_divide(
          (
            (
              MOD(`t6`.`looks`, 1000000000)
            ) * `t6`.`kept`
          ) - (
            MOD((
              MOD(`t6`.`looks`, 1000000000)
            ) * `t6`.`kept`, 1000000000)
          ),
          1000000000
        ),
        0
      ) AS INT64) AS `looks`,
      (
        CAST(ROUND(ieee_divide(`t6`.`credit` - (
          MOD(`t6`.`credit`, 1000000000)
        ), 1000000000), 0) AS INT64) * `t6`.`kept`
      ) + CAST(ROUND(
        ieee_divide(
          (
            (
              MOD(`t6`.`credit`, 1000000000)
            ) * `t6`.`kept`
          ) - (
            MOD((
              MOD(`t6`.`credit`, 1000000000)
            ) * `t6`.`kept`, 1000000000)
          ),
          1000000000
        ),
        0
      ) AS INT64) AS `credit`
    FROM (
      SELECT
        `t3`.`query`,
        `t3`.`item_id`,
        `t3`.`impressions`,
        `t3`.`clicks`,
        `t3`.`clients`,
        `t3`.`looks`,
        `t3`.`credit`,
        `t5`.`since`,
        `t5`.`until`,
        `t5`.`kept`
      FROM `counts` AS `t3`
      CROSS JOIN `step` AS `t5`
    ) AS `t6`
  ) AS `t9`
  UNION ALL
  SELECT
    *
  FROM (
    SELECT
      `t7`.`query`,
      `t7`.`item_id`,
      COALESCE(`t7`.`impressions`, 0) AS `impressions`,
      COALESCE(`t7`.`clicks`, 0) AS `clicks`,
      COALESCE(`t7`.`clients`, 0) AS `clients`,
      CAST(ROUND(COALESCE(`t7`.`corrected_impressions`, `t7`.`impressions`, 0) * 1000000000, 0) AS INT64) AS `looks`,
      CAST(ROUND(COALESCE(`t7`.`corrected_clicks`, `t7`.`clicks`, 0) * 1000000000, 0) AS INT64) AS `credit`
    FROM (
      SELECT
        `t4`.`query`,
        `t4`.`item_id`,
        `t4`.`impressions`,
        `t4`.`clicks`,
        `t4`.`clients`,
        `t4`.`day`,
        `t4`.`corrected_impressions`,
        `t4`.`corrected_clicks`,
        `t5`.`since`,
        `t5`.`until`,
        `t5`.`kept`
      FROM `interactions` AS `t4`
      CROSS JOIN `step` AS `t5`
    ) AS `t7`
    WHERE
      `t7`.`day` > `t7`.`since` AND `t7`.`day` < `t7`.`until`
  ) AS `t8`
) AS `t10`
GROUP BY
  1,
  2;

SELECT
  *
FROM (
  SELECT
    `t2`.`query`,
    `t2`.`item_id`,
    `t2`.`impressions`,
    `t2`.`clicks`,
    `t2`.`clients`,
    `t2`.`looks`,
    `t2`.`credit`
  FROM `counts` AS `t2`
  WHERE
    EXISTS(
      SELECT
        1
      FROM (
        SELECT
          `t1`.`name` AS `item_id`
        FROM `texts` AS `t1`
        WHERE
          `t1`.`is_item`
      ) AS `t4`
      WHERE
        `t2`.`item_id` = `t4`.`item_id`
    )
    AND EXISTS(
      SELECT
        1
      FROM (
        SELECT
          `t1`.`name` AS `query`
        FROM `texts` AS `t1`
        WHERE
          NOT (
            `t1`.`is_item`
          )
      ) AS `t6`
      WHERE
        `t2`.`query` = `t6`.`query`
    )
) AS `t7`
ORDER BY
  `t7`.`query` ASC NULLS LAST,
  `t7`.`item_id` ASC NULLS LAST;

SELECT
  *
FROM (
  SELECT
    `t6`.`side`,
    `t6`.`key`,
    `t6`.`left_out`,
    `t6`.`rank`,
    `t6`.`neighbor`,
    `t3`.`text`,
    `t6`.`corrected_impressions`,
    `t6`.`clicks`,
    `t6`.`clients`,
    `t6`.`rate`,
    `t6`.`lower_bound`,
    `t6`.`upper_bound`
  FROM (
    SELECT
      `t4`.`query`,
      `t4`.`item_id`,
      `t4`.`impressions`,
      `t4`.`clicks`,
      `t4`.`clients`,
      `t4`.`looks`,
      `t4`.`rate`,
      `t4`.`lower_bound`,
      `t4`.`upper_bound`,
      `t4`.`strength`,
      `t4`.`rank`,
      'query' AS `side`,
      `t4`.`query` AS `key`,
      '' AS `left_out`,
      `t4`.`item_id` AS `neighbor`,
      ieee_divide(`t4`.`looks`, 1000000000) AS `corrected_impressions`
    FROM (
      SELECT
        `t0`.`query`,
        `t0`.`item_id`,
        `t0`.`impressions`,
        `t0`.`clicks`,
        `t0`.`clients`,
        `t0`.`looks`,
        `t0`.`rate`,
        `t0`.`lower_bound`,
        `t0`.`upper_bound`,
        `t0`.`strength`,
        (
          ROW_NUMBER() OVER (
            PARTITION BY `t0`.`query`
            ORDER BY `t0`.`strength` DESC, `t0`.`clicks` DESC, `t0`.`item_id` ASC
          ) - 1
        ) + 1 AS `rank`
      FROM `accepted` AS `t0`
    ) AS `t4`
    WHERE
      `t4`.`rank` <= 4
  ) AS `t6`
  INNER JOIN (
    SELECT
      `t1`.`text`,
      `t1`.`name` AS `neighbor`
    FROM `texts` AS `t1`
    WHERE
      `t1`.`is_item` = TRUE
  ) AS `t3`
    ON `t6`.`neighbor` = `t3`.`neighbor`
) AS `t7`
ORDER BY
  `t7`.`key` ASC NULLS LAST,
  `t7`.`left_out` ASC NULLS LAST,
  `t7`.`rank` ASC NULLS LAST;

SELECT
  *
FROM (
  SELECT
    `t6`.`side`,
    `t6`.`key`,
    `t6`.`left_out`,
    `t6`.`rank`,
    `t6`.`neighbor`,
    `t3`.`text`,
    `t6`.`corrected_impressions`,
    `t6`.`clicks`,
    `t6`.`clients`,
    `t6`.`rate`,
    `t6`.`lower_bound`,
    `t6`.`upper_bound`
  FROM (
    SELECT
      `t4`.`query`,
      `t4`.`item_id`,
      `t4`.`impressions`,
      `t4`.`clicks`,
      `t4`.`clients`,
      `t4`.`looks`,
      `t4`.`rate`,
      `t4`.`lower_bound`,
      `t4`.`upper_bound`,
      `t4`.`strength`,
      `t4`.`rank`,
      'item' AS `side`,
      `t4`.`item_id` AS `key`,
      '' AS `left_out`,
      `t4`.`query` AS `neighbor`,
      ieee_divide(`t4`.`looks`, 1000000000) AS `corrected_impressions`
    FROM (
      SELECT
        `t0`.`query`,
        `t0`.`item_id`,
        `t0`.`impressions`,
        `t0`.`clicks`,
        `t0`.`clients`,
        `t0`.`looks`,
        `t0`.`rate`,
        `t0`.`lower_bound`,
        `t0`.`upper_bound`,
        `t0`.`strength`,
        (
          ROW_NUMBER() OVER (
            PARTITION BY `t0`.`item_id`
            ORDER BY `t0`.`strength` DESC, `t0`.`clicks` DESC, `t0`.`query` ASC
          ) - 1
        ) + 1 AS `rank`
      FROM `accepted` AS `t0`
    ) AS `t4`
    WHERE
      `t4`.`rank` <= 4
  ) AS `t6`
  INNER JOIN (
    SELECT
      `t1`.`text`,
      `t1`.`name` AS `neighbor`
    FROM `texts` AS `t1`
    WHERE
      `t1`.`is_item` = FALSE
  ) AS `t3`
    ON `t6`.`neighbor` = `t3`.`neighbor`
) AS `t7`
ORDER BY
  `t7`.`key` ASC NULLS LAST,
  `t7`.`left_out` ASC NULLS LAST,
  `t7`.`rank` ASC NULLS LAST;

WITH `t4` AS (
  SELECT
    `t1`.`looks`,
    `t1`.`clicks`,
    `t1`.`clients`,
    `t1`.`query` AS `key`,
    `t1`.`item_id` AS `via`,
    ROW_NUMBER() OVER (
      PARTITION BY `t1`.`query`
      ORDER BY `t1`.`strength` DESC, `t1`.`clicks` DESC, `t1`.`item_id` ASC
    ) - 1 AS `place`,
    ROW_NUMBER() OVER (
      PARTITION BY `t1`.`item_id`
      ORDER BY `t1`.`strength` DESC, `t1`.`clicks` DESC, `t1`.`query` ASC
    ) - 1 AS `far_place`,
    CAST(ROUND(`t1`.`strength` * 100000000, 0) AS INT64) AS `strength`,
    CAST(ROUND(`t1`.`rate` * 100000000, 0) AS INT64) AS `rate`,
    CAST(ROUND(`t1`.`lower_bound` * 100000000, 0) AS INT64) AS `lower_bound`,
    CAST(ROUND(`t1`.`upper_bound` * 100000000, 0) AS INT64) AS `upper_bound`
  FROM `accepted` AS `t1`
)
SELECT
  *
FROM (
  SELECT
    `t26`.`side`,
    `t26`.`key`,
    `t26`.`left_out`,
    `t26`.`rank`,
    `t26`.`neighbor`,
    `t3`.`text`,
    `t26`.`corrected_impressions`,
    `t26`.`clicks`,
    `t26`.`clients`,
    `t26`.`rate`,
    `t26`.`lower_bound`,
    `t26`.`upper_bound`
  FROM (
    SELECT
      `t24`.`key`,
      `t24`.`left_out`,
      `t24`.`whole`,
      `t24`.`neighbor`,
      `t24`.`score`,
      `t24`.`looks`,
      `t24`.`clicks`,
      `t24`.`clients`,
      ieee_divide(ieee_divide(`t24`.`rate`, `t24`.`whole`), 100000000) AS `rate`,
      ieee_divide(ieee_divide(`t24`.`lower_bound`, `t24`.`whole`), 100000000) AS `lower_bound`,
      ieee_divide(ieee_divide(`t24`.`upper_bound`, `t24`.`whole`), 100000000) AS `upper_bound`,
      `t24`.`rank`,
      'query_query' AS `side`,
      ieee_divide(`t24`.`looks`, 1000000000) AS `corrected_impressions`
    FROM (
      SELECT
        `t23`.`key`,
        `t23`.`left_out`,
        `t23`.`whole`,
        `t23`.`neighbor`,
        `t23`.`score`,
        `t23`.`looks`,
        `t23`.`clicks`,
        `t23`.`clients`,
        `t23`.`rate`,
        `t23`.`lower_bound`,
        `t23`.`upper_bound`,
        (
          ROW_NUMBER() OVER (
            PARTITION BY `t23`.`key`, `t23`.`left_out`
            ORDER BY `t23`.`score` DESC, `t23`.`clicks` DESC, `t23`.`neighbor` ASC
          ) - 1
        ) + 1 AS `rank`
      FROM (
        SELECT
          *
        FROM (
          SELECT
            `t21`.`key`,
            `t21`.`left_out`,
            `t21`.`whole`,
            `t21`.`far_key` AS `neighbor`,
            SUM(`t21`.`strength` * `t21`.`far_strength`) AS `score`,
            SUM(LEAST(`t21`.`looks`, `t21`.`far_looks`)) AS `looks`,
            SUM(LEAST(`t21`.`clicks`, `t21`.`far_clicks`)) AS `clicks`,
            MAX(LEAST(`t21`.`clients`, `t21`.`far_clients`)) AS `clients`,
            SUM(`t21`.`strength` * `t21`.`far_rate`) AS `rate`,
            SUM(`t21`.`strength` * `t21`.`far_lower_bound`) AS `lower_bound`,
            SUM(`t21`.`strength` * `t21`.`far_upper_bound`) AS `upper_bound`
          FROM (
            SELECT
              *
            FROM (
              SELECT
                `t19`.`key`,
                `t19`.`left_out`,
                `t19`.`looks`,
                `t19`.`clicks`,
                `t19`.`clients`,
                `t19`.`via`,
                `t19`.`place`,
                `t19`.`far_place`,
                `t19`.`strength`,
                `t19`.`rate`,
                `t19`.`lower_bound`,
                `t19`.`upper_bound`,
                `t19`.`seat`,
                `t19`.`whole`,
                `t10`.`key` AS `far_key`,
                `t10`.`looks` AS `far_looks`,
                `t10`.`clicks` AS `far_clicks`,
                `t10`.`clients` AS `far_clients`,
                `t10`.`strength` AS `far_strength`,
                `t10`.`rate` AS `far_rate`,
                `t10`.`lower_bound` AS `far_lower_bound`,
                `t10`.`upper_bound` AS `far_upper_bound`
              FROM (
                SELECT
                  `t17`.`key`,
                  `t17`.`left_out`,
                  `t17`.`looks`,
                  `t17`.`clicks`,
                  `t17`.`clients`,
                  `t17`.`via`,
                  `t17`.`place`,
                  `t17`.`far_place`,
                  `t17`.`strength`,
                  `t17`.`rate`,
                  `t17`.`lower_bound`,
                  `t17`.`upper_bound`,
                  `t17`.`seat`,
                  SUM(`t17`.`strength`) OVER (
                    PARTITION BY `t17`.`key`, `t17`.`left_out`
                    ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
                  ) AS `whole`
                FROM (
                  SELECT
                    *
                  FROM (
                    SELECT
                      `t15`.`key`,
                      `t15`.`left_out`,
                      `t15`.`looks`,
                      `t15`.`clicks`,
                      `t15`.`clients`,
                      `t15`.`via`,
                      `t15`.`place`,
                      `t15`.`far_place`,
                      `t15`.`strength`,
                      `t15`.`rate`,
                      `t15`.`lower_bound`,
                      `t15`.`upper_bound`,
                      ROW_NUMBER() OVER (PARTITION BY `t15`.`key`, `t15`.`left_out` ORDER BY `t15`.`place` ASC) - 1 AS `seat`
                    FROM (
                      SELECT
                        *
                      FROM (
                        SELECT
                          `t13`.`key`,
                          `t13`.`left_out`,
                          `t12`.`looks`,
                          `t12`.`clicks`,
                          `t12`.`clients`,
                          `t12`.`via`,
                          `t12`.`place`,
                          `t12`.`far_place`,
                          `t12`.`strength`,
                          `t12`.`rate`,
                          `t12`.`lower_bound`,
                          `t12`.`upper_bound`
                        FROM (
                          SELECT
                            *
                          FROM (
                            SELECT DISTINCT
                              `t5`.`key`,
                              '' AS `left_out`
                            FROM `t4` AS `t5`
                            WHERE
                              `t5`.`place` <= 3
                          ) AS `t7`
                          UNION ALL
                          SELECT
                            *
                          FROM (
                            SELECT
                              `t5`.`key`,
                              `t5`.`via` AS `left_out`
                            FROM `t4` AS `t5`
                            WHERE
                              `t5`.`place` <= 3
                          ) AS `t8`
                        ) AS `t13`
                        INNER JOIN (
                          SELECT
                            *
                          FROM `t4` AS `t5`
                          WHERE
                            `t5`.`place` <= 3
                        ) AS `t12`
                          ON `t13`.`key` = `t12`.`key`
                      ) AS `t14`
                      WHERE
                        `t14`.`via` <> `t14`.`left_out`
                    ) AS `t15`
                  ) AS `t16`
                  WHERE
                    `t16`.`seat` < 3
                ) AS `t17`
              ) AS `t19`
              INNER JOIN (
                SELECT
                  `t5`.`key`,
                  `t5`.`via`,
                  `t5`.`looks`,
                  `t5`.`clicks`,
                  `t5`.`clients`,
                  `t5`.`strength`,
                  `t5`.`rate`,
                  `t5`.`lower_bound`,
                  `t5`.`upper_bound`
                FROM `t4` AS `t5`
                WHERE
                  `t5`.`far_place` < 100
              ) AS `t10`
                ON `t19`.`via` = `t10`.`via`
            ) AS `t20`
            WHERE
              `t20`.`far_key` <> `t20`.`key`
          ) AS `t21`
          GROUP BY
            1,
            2,
            3,
            4
        ) AS `t22`
        WHERE
          `t22`.`score` > 0
      ) AS `t23`
    ) AS `t24`
    WHERE
      `t24`.`rank` <= 3
  ) AS `t26`
  INNER JOIN (
    SELECT
      `t0`.`text`,
      `t0`.`name` AS `neighbor`
    FROM `texts` AS `t0`
    WHERE
      `t0`.`is_item` = FALSE
  ) AS `t3`
    ON `t26`.`neighbor` = `t3`.`neighbor`
) AS `t27`
ORDER BY
  `t27`.`key` ASC NULLS LAST,
  `t27`.`left_out` ASC NULLS LAST,
  `t27`.`rank` ASC NULLS LAST;

WITH `t4` AS (
  SELECT
    `t1`.`looks`,
    `t1`.`clicks`,
    `t1`.`clients`,
    `t1`.`item_id` AS `key`,
    `t1`.`query` AS `via`,
    ROW_NUMBER() OVER (
      PARTITION BY `t1`.`item_id`
      ORDER BY `t1`.`strength` DESC, `t1`.`clicks` DESC, `t1`.`query` ASC
    ) - 1 AS `place`,
    ROW_NUMBER() OVER (
      PARTITION BY `t1`.`query`
      ORDER BY `t1`.`strength` DESC, `t1`.`clicks` DESC, `t1`.`item_id` ASC
    ) - 1 AS `far_place`,
    CAST(ROUND(`t1`.`strength` * 100000000, 0) AS INT64) AS `strength`,
    CAST(ROUND(`t1`.`rate` * 100000000, 0) AS INT64) AS `rate`,
    CAST(ROUND(`t1`.`lower_bound` * 100000000, 0) AS INT64) AS `lower_bound`,
    CAST(ROUND(`t1`.`upper_bound` * 100000000, 0) AS INT64) AS `upper_bound`
  FROM `accepted` AS `t1`
)
SELECT
  *
FROM (
  SELECT
    `t26`.`side`,
    `t26`.`key`,
    `t26`.`left_out`,
    `t26`.`rank`,
    `t26`.`neighbor`,
    `t3`.`text`,
    `t26`.`corrected_impressions`,
    `t26`.`clicks`,
    `t26`.`clients`,
    `t26`.`rate`,
    `t26`.`lower_bound`,
    `t26`.`upper_bound`
  FROM (
    SELECT
      `t24`.`key`,
      `t24`.`left_out`,
      `t24`.`whole`,
      `t24`.`neighbor`,
      `t24`.`score`,
      `t24`.`looks`,
      `t24`.`clicks`,
      `t24`.`clients`,
      ieee_divide(ieee_divide(`t24`.`rate`, `t24`.`whole`), 100000000) AS `rate`,
      ieee_divide(ieee_divide(`t24`.`lower_bound`, `t24`.`whole`), 100000000) AS `lower_bound`,
      ieee_divide(ieee_divide(`t24`.`upper_bound`, `t24`.`whole`), 100000000) AS `upper_bound`,
      `t24`.`rank`,
      'item_item' AS `side`,
      ieee_divide(`t24`.`looks`, 1000000000) AS `corrected_impressions`
    FROM (
      SELECT
        `t23`.`key`,
        `t23`.`left_out`,
        `t23`.`whole`,
        `t23`.`neighbor`,
        `t23`.`score`,
        `t23`.`looks`,
        `t23`.`clicks`,
        `t23`.`clients`,
        `t23`.`rate`,
        `t23`.`lower_bound`,
        `t23`.`upper_bound`,
        (
          ROW_NUMBER() OVER (
            PARTITION BY `t23`.`key`, `t23`.`left_out`
            ORDER BY `t23`.`score` DESC, `t23`.`clicks` DESC, `t23`.`neighbor` ASC
          ) - 1
        ) + 1 AS `rank`
      FROM (
        SELECT
          *
        FROM (
          SELECT
            `t21`.`key`,
            `t21`.`left_out`,
            `t21`.`whole`,
            `t21`.`far_key` AS `neighbor`,
            SUM(`t21`.`strength` * `t21`.`far_strength`) AS `score`,
            SUM(LEAST(`t21`.`looks`, `t21`.`far_looks`)) AS `looks`,
            SUM(LEAST(`t21`.`clicks`, `t21`.`far_clicks`)) AS `clicks`,
            MAX(LEAST(`t21`.`clients`, `t21`.`far_clients`)) AS `clients`,
            SUM(`t21`.`strength` * `t21`.`far_rate`) AS `rate`,
            SUM(`t21`.`strength` * `t21`.`far_lower_bound`) AS `lower_bound`,
            SUM(`t21`.`strength` * `t21`.`far_upper_bound`) AS `upper_bound`
          FROM (
            SELECT
              *
            FROM (
              SELECT
                `t19`.`key`,
                `t19`.`left_out`,
                `t19`.`looks`,
                `t19`.`clicks`,
                `t19`.`clients`,
                `t19`.`via`,
                `t19`.`place`,
                `t19`.`far_place`,
                `t19`.`strength`,
                `t19`.`rate`,
                `t19`.`lower_bound`,
                `t19`.`upper_bound`,
                `t19`.`seat`,
                `t19`.`whole`,
                `t10`.`key` AS `far_key`,
                `t10`.`looks` AS `far_looks`,
                `t10`.`clicks` AS `far_clicks`,
                `t10`.`clients` AS `far_clients`,
                `t10`.`strength` AS `far_strength`,
                `t10`.`rate` AS `far_rate`,
                `t10`.`lower_bound` AS `far_lower_bound`,
                `t10`.`upper_bound` AS `far_upper_bound`
              FROM (
                SELECT
                  `t17`.`key`,
                  `t17`.`left_out`,
                  `t17`.`looks`,
                  `t17`.`clicks`,
                  `t17`.`clients`,
                  `t17`.`via`,
                  `t17`.`place`,
                  `t17`.`far_place`,
                  `t17`.`strength`,
                  `t17`.`rate`,
                  `t17`.`lower_bound`,
                  `t17`.`upper_bound`,
                  `t17`.`seat`,
                  SUM(`t17`.`strength`) OVER (
                    PARTITION BY `t17`.`key`, `t17`.`left_out`
                    ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
                  ) AS `whole`
                FROM (
                  SELECT
                    *
                  FROM (
                    SELECT
                      `t15`.`key`,
                      `t15`.`left_out`,
                      `t15`.`looks`,
                      `t15`.`clicks`,
                      `t15`.`clients`,
                      `t15`.`via`,
                      `t15`.`place`,
                      `t15`.`far_place`,
                      `t15`.`strength`,
                      `t15`.`rate`,
                      `t15`.`lower_bound`,
                      `t15`.`upper_bound`,
                      ROW_NUMBER() OVER (PARTITION BY `t15`.`key`, `t15`.`left_out` ORDER BY `t15`.`place` ASC) - 1 AS `seat`
                    FROM (
                      SELECT
                        *
                      FROM (
                        SELECT
                          `t13`.`key`,
                          `t13`.`left_out`,
                          `t12`.`looks`,
                          `t12`.`clicks`,
                          `t12`.`clients`,
                          `t12`.`via`,
                          `t12`.`place`,
                          `t12`.`far_place`,
                          `t12`.`strength`,
                          `t12`.`rate`,
                          `t12`.`lower_bound`,
                          `t12`.`upper_bound`
                        FROM (
                          SELECT
                            *
                          FROM (
                            SELECT DISTINCT
                              `t5`.`key`,
                              '' AS `left_out`
                            FROM `t4` AS `t5`
                            WHERE
                              `t5`.`place` <= 3
                          ) AS `t7`
                          UNION ALL
                          SELECT
                            *
                          FROM (
                            SELECT
                              `t5`.`key`,
                              `t5`.`via` AS `left_out`
                            FROM `t4` AS `t5`
                            WHERE
                              `t5`.`place` <= 3
                          ) AS `t8`
                        ) AS `t13`
                        INNER JOIN (
                          SELECT
                            *
                          FROM `t4` AS `t5`
                          WHERE
                            `t5`.`place` <= 3
                        ) AS `t12`
                          ON `t13`.`key` = `t12`.`key`
                      ) AS `t14`
                      WHERE
                        `t14`.`via` <> `t14`.`left_out`
                    ) AS `t15`
                  ) AS `t16`
                  WHERE
                    `t16`.`seat` < 3
                ) AS `t17`
              ) AS `t19`
              INNER JOIN (
                SELECT
                  `t5`.`key`,
                  `t5`.`via`,
                  `t5`.`looks`,
                  `t5`.`clicks`,
                  `t5`.`clients`,
                  `t5`.`strength`,
                  `t5`.`rate`,
                  `t5`.`lower_bound`,
                  `t5`.`upper_bound`
                FROM `t4` AS `t5`
                WHERE
                  `t5`.`far_place` < 100
              ) AS `t10`
                ON `t19`.`via` = `t10`.`via`
            ) AS `t20`
            WHERE
              `t20`.`far_key` <> `t20`.`key`
          ) AS `t21`
          GROUP BY
            1,
            2,
            3,
            4
        ) AS `t22`
        WHERE
          `t22`.`score` > 0
      ) AS `t23`
    ) AS `t24`
    WHERE
      `t24`.`rank` <= 3
  ) AS `t26`
  INNER JOIN (
    SELECT
      `t0`.`text`,
      `t0`.`name` AS `neighbor`
    FROM `texts` AS `t0`
    WHERE
      `t0`.`is_item` = TRUE
  ) AS `t3`
    ON `t26`.`neighbor` = `t3`.`neighbor`
) AS `t27`
ORDER BY
  `t27`.`key` ASC NULLS LAST,
  `t27`.`left_out` ASC NULLS LAST,
  `t27`.`rank` ASC NULLS LAST;

SELECT
  *
FROM `counts` AS `t0`
ORDER BY
  `t0`.`query` ASC NULLS LAST,
  `t0`.`item_id` ASC NULLS LAST;
