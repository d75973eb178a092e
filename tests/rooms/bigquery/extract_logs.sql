CREATE OR REPLACE TABLE `staged` AS
SELECT
  `t2`.`query_id`,
  `t2`.`client`,
  `t2`.`session`,
  `t2`.`us`,
  `t2`.`action`,
  `t2`.`item_id`,
  `t2`.`text`,
  `t2`.`position`,
  `t2`.`fault`,
  CASE WHEN `t2`.`fault` IS NOT NULL THEN `t2`.`origin` ELSE NULL END AS `origin`
FROM (
  SELECT
    `t1`.`query_id`,
    `t1`.`client`,
    `t1`.`session`,
    `t1`.`us`,
    `t1`.`name`,
    `t1`.`item_id`,
    CAST(`t1`.`position` AS INT64) AS `position`,
    `t1`.`text`,
    `t1`.`has_position`,
    `t1`.`is_blank`,
    `t1`.`origin`,
    `t1`.`action`,
    CASE
      WHEN `t1`.`is_blank`
      THEN 'unreadable'
      WHEN `t1`.`name` IN ('search', 'on_search', 'view', 'watch')
      AND (
        `t1`.`action` IS NULL
      )
      THEN 'other_action'
      WHEN `t1`.`query_id` IS NULL
      THEN 'no_query_id'
      WHEN `t1`.`action` IS NULL
      THEN 'unknown_action'
      WHEN `t1`.`item_id` IS NULL
      THEN 'empty_item'
      WHEN (
        COALESCE(`t1`.`action`, -1) = 0
      ) AND NOT (
        `t1`.`has_position`
      )
      THEN 'bad_position'
      WHEN `t1`.`has_position`
      AND NOT (
        COALESCE(`t1`.`position` BETWEEN 1 AND 100000, FALSE)
      )
      THEN 'bad_position'
      WHEN `t1`.`us` IS NULL
      THEN 'bad_timestamp'
      ELSE NULL
    END AS `fault`
  FROM (
    SELECT
      `t0`.`query_id`,
      `t0`.`client`,
      `t0`.`session`,
      `t0`.`us`,
      `t0`.`name`,
      `t0`.`item_id`,
      `t0`.`position`,
      `t0`.`text`,
      `t0`.`has_position`,
      `t0`.`is_blank`,
      `t0`.`origin`,
      CASE `t0`.`name`
        WHEN 'add_to_cart'
        THEN 2
        WHEN 'click'
        THEN 1
        WHEN 'impression'
        THEN 0
        WHEN 'purchase'
        THEN 3
        ELSE NULL
      END AS `action`
    FROM `read_events` AS `t0`
  ) AS `t1`
) AS `t2`;

CREATE OR REPLACE TABLE `searches` AS
SELECT
  *
FROM (
  SELECT
    COALESCE(`t8`.`query_id`, `t13`.`query_id`) AS `query_id`,
    COALESCE(`t8`.`text`, `t13`.`text`) AS `text`,
    COALESCE(NULLIF(`t8`.`us`, 0), `t13`.`us`) AS `us`,
    COALESCE(NULLIF(`t8`.`client`, ''), `t13`.`client`) AS `client`,
    `t8`.`experiment`
  FROM (
    SELECT
      `t6`.*
      EXCEPT (`place`)
    FROM (
      SELECT
        *
      FROM (
        SELECT
          `t2`.`query_id`,
          `t2`.`client`,
          `t2`.`text`,
          `t2`.`us`,
          `t2`.`experiment`,
          ROW_NUMBER() OVER (
            PARTITION BY `t2`.`query_id`
            ORDER BY `t2`.`us` DESC, `t2`.`text` DESC, `t2`.`client` DESC, COALESCE(`t2`.`experiment`, '') ASC
          ) - 1 AS `place`
        FROM (
          SELECT
            `t0`.`query_id`,
            COALESCE(`t0`.`client`, '') AS `client`,
            `t0`.`text`,
            COALESCE(`t0`.`us`, 0) AS `us`,
            `t0`.`experiment`
          FROM `read_queries` AS `t0`
          WHERE
            `t0`.`query_id` IS NOT NULL AND `t0`.`text` IS NOT NULL
        ) AS `t2`
      ) AS `t5`
      WHERE
        `t5`.`place` = 0
    ) AS `t6`
  ) AS `t8`
  FULL OUTER JOIN (
    SELECT
      `t11`.`query_id`,
      MAX(`t11`.`text`) AS `text`,
      MIN(`t11`.`us`) AS `us`,
      MIN(`t11`.`client`) AS `client`
    FROM (
      SELECT
        `t4`.`query_id`,
        `t4`.`client`,
        `t4`.`session`,
        `t4`.`us`,
        `t4`.`action`,
        `t4`.`item_id`,
        `t4`.`text`,
        `t4`.`position`,
        `t4`.`fault`,
        `t4`.`origin`
      FROM (
        SELECT
          *
        FROM `staged` AS `t1`
        WHERE
          `t1`.`query_id` IS NOT NULL
          AND COALESCE(`t1`.`fault`, 'other_action') = 'other_action'
      ) AS `t4`
      WHERE
        NOT EXISTS(
          SELECT
            1
          FROM (
            SELECT
              `t7`.`query_id`
            FROM (
              SELECT
                `t6`.*
                EXCEPT (`place`)
              FROM (
                SELECT
                  *
                FROM (
                  SELECT
                    `t2`.`query_id`,
                    `t2`.`client`,
                    `t2`.`text`,
                    `t2`.`us`,
                    `t2`.`experiment`,
                    ROW_NUMBER() OVER (
                      PARTITION BY `t2`.`query_id`
                      ORDER BY `t2`.`us` DESC, `t2`.`text` DESC, `t2`.`client` DESC, COALESCE(`t2`.`experiment`, '') ASC
                    ) - 1 AS `place`
                  FROM (
                    SELECT
                      `t0`.`query_id`,
                      COALESCE(`t0`.`client`, '') AS `client`,
                      `t0`.`text`,
                      COALESCE(`t0`.`us`, 0) AS `us`,
                      `t0`.`experiment`
                    FROM `read_queries` AS `t0`
                    WHERE
                      `t0`.`query_id` IS NOT NULL AND `t0`.`text` IS NOT NULL
                  ) AS `t2`
                ) AS `t5`
                WHERE
                  `t5`.`place` = 0
              ) AS `t6`
            ) AS `t7`
            WHERE
              `t7`.`us` > 0 AND `t7`.`client` <> ''
          ) AS `t10`
          WHERE
            `t4`.`query_id` = `t10`.`query_id`
        )
    ) AS `t11`
    GROUP BY
      1
  ) AS `t13`
    ON `t8`.`query_id` = `t13`.`query_id`
) AS `t14`
WHERE
  `t14`.`text` IS NOT NULL;

CREATE OR REPLACE TABLE `typed` AS
SELECT
  `t4`.`query_id`,
  `t6`.`code` AS `search`,
  `t5`.`phrase`,
  `t4`.`us`,
  `t4`.`experiment`,
  `t7`.`code` AS `client`
FROM `searches` AS `t4`
INNER JOIN `spellings` AS `t5`
  ON `t4`.`text` = `t5`.`text`
INNER JOIN `ids` AS `t6`
  ON `t4`.`query_id` = `t6`.`name`
LEFT OUTER JOIN `people` AS `t7`
  ON `t4`.`client` = `t7`.`name`;

CREATE OR REPLACE TABLE `known` AS
SELECT
  `t9`.`search`,
  `t9`.`phrase`,
  COALESCE(`t10`.`client_code`, `t9`.`owner`) AS `client`,
  `t11`.`session_code` AS `session`,
  `t12`.`us`,
  `t12`.`action`,
  `t4`.`code` AS `item_id`,
  `t12`.`position`
FROM (
  SELECT
    *
  FROM `staged` AS `t0`
  WHERE
    `t0`.`fault` IS NULL
) AS `t12`
INNER JOIN (
  SELECT
    `t2`.`query_id`,
    `t2`.`search`,
    `t2`.`phrase`,
    `t2`.`client` AS `owner`
  FROM `typed` AS `t2`
) AS `t9`
  ON `t12`.`query_id` = `t9`.`query_id`
INNER JOIN `things` AS `t4`
  ON `t12`.`item_id` = `t4`.`name`
LEFT OUTER JOIN (
  SELECT
    `t3`.`name` AS `client`,
    `t3`.`code` AS `client_code`
  FROM `people` AS `t3`
) AS `t10`
  ON `t12`.`client` = `t10`.`client`
LEFT OUTER JOIN (
  SELECT
    `t3`.`name` AS `session`,
    `t3`.`code` AS `session_code`
  FROM `people` AS `t3`
) AS `t11`
  ON `t12`.`session` = `t11`.`session`;

CREATE OR REPLACE TABLE `suspects` AS
SELECT
  `t2`.`mark`
FROM (
  SELECT
    `t1`.`mark`,
    COUNT(*) AS `rows`
  FROM (
    SELECT
      `t0`.`search`,
      `t0`.`phrase`,
      `t0`.`client`,
      `t0`.`session`,
      `t0`.`us`,
      `t0`.`action`,
      `t0`.`item_id`,
      `t0`.`position`,
      `t0`.`search` ^ `t0`.`item_id` ^ (
        `t0`.`us` + `t0`.`action`
      ) AS `mark`
    FROM `known` AS `t0`
  ) AS `t1`
  GROUP BY
    1
) AS `t2`
WHERE
  `t2`.`rows` > 1;

CREATE OR REPLACE VIEW `events` AS
SELECT
  *
FROM (
  SELECT
    `t5`.*
    EXCEPT (`mark`)
  FROM (
    SELECT
      `t4`.`search`,
      `t4`.`phrase`,
      `t4`.`client`,
      `t4`.`session`,
      `t4`.`us`,
      `t4`.`action`,
      `t4`.`item_id`,
      `t4`.`position`,
      `t4`.`mark`
    FROM (
      SELECT
        `t0`.`search`,
        `t0`.`phrase`,
        `t0`.`client`,
        `t0`.`session`,
        `t0`.`us`,
        `t0`.`action`,
        `t0`.`item_id`,
        `t0`.`position`,
        `t0`.`search` ^ `t0`.`item_id` ^ (
          `t0`.`us` + `t0`.`action`
        ) AS `mark`
      FROM `known` AS `t0`
    ) AS `t4`
    WHERE
      NOT EXISTS(
        SELECT
          1
        FROM `suspects` AS `t2`
        WHERE
          `t4`.`mark` = `t2`.`mark`
      )
  ) AS `t5`
) AS `t7`
UNION ALL
SELECT
  *
FROM (
  SELECT DISTINCT
    *
  FROM (
    SELECT
      `t6`.*
      EXCEPT (`mark`)
    FROM (
      SELECT
        `t4`.`search`,
        `t4`.`phrase`,
        `t4`.`client`,
        `t4`.`session`,
        `t4`.`us`,
        `t4`.`action`,
        `t4`.`item_id`,
        `t4`.`position`,
        `t4`.`mark`
      FROM (
        SELECT
          `t0`.`search`,
          `t0`.`phrase`,
          `t0`.`client`,
          `t0`.`session`,
          `t0`.`us`,
          `t0`.`action`,
          `t0`.`item_id`,
          `t0`.`position`,
          `t0`.`search` ^ `t0`.`item_id` ^ (
            `t0`.`us` + `t0`.`action`
          ) AS `mark`
        FROM `known` AS `t0`
      ) AS `t4`
      WHERE
        EXISTS(
          SELECT
            1
          FROM `suspects` AS `t2`
          WHERE
            `t4`.`mark` = `t2`.`mark`
        )
    ) AS `t6`
  ) AS `t8`
) AS `t9`;

CREATE OR REPLACE TABLE `bots` AS
WITH `t5` AS (
  SELECT DISTINCT
    `t0`.`client`,
    `t0`.`search`,
    `t0`.`item_id`
  FROM `events` AS `t0`
  WHERE
    `t0`.`us` >= 1714521600000000
    AND `t0`.`us` < 1716940800000000
    AND `t0`.`client` IS NOT NULL
    AND `t0`.`action` = 1
), `t7` AS (
  SELECT
    *
  FROM `typed` AS `t1`
  WHERE
    `t1`.`us` >= 1714521600000000
    AND `t1`.`us` < 1716940800000000
    AND `t1`.`client` IS NOT NULL
), `t16` AS (
  SELECT
    `t4`.`client`,
    COUNTIF(`t4`.`action` = 0) AS `impressions`,
    COUNTIF(`t4`.`action` = 1) AS `clicks`,
    COUNTIF((
      `t4`.`action` = 1
    ) AND (
      `t4`.`position` <= 3
    )) AS `top_clicks`
  FROM (
    SELECT
      *
    FROM `events` AS `t0`
    WHERE
      `t0`.`us` >= 1714521600000000
      AND `t0`.`us` < 1716940800000000
      AND `t0`.`client` IS NOT NULL
  ) AS `t4`
  GROUP BY
    1
), `t30` AS (
  SELECT
    `t28`.`client`,
    COUNT(*) AS `clicks`,
    COUNTIF(`t28`.`is_shown` IS NULL) AS `blind`
  FROM (
    SELECT
      `t12`.`client`,
      `t12`.`search`,
      `t12`.`item_id`,
      `t26`.`search` AS `search_right`,
      `t26`.`item_id` AS `item_id_right`,
      `t26`.`is_shown`
    FROM `t5` AS `t12`
    LEFT OUTER JOIN (
      SELECT
        `t21`.`search`,
        `t21`.`item_id`,
        TRUE AS `is_shown`
      FROM (
        SELECT DISTINCT
          *
        FROM (
          SELECT
            `t10`.`search`,
            `t10`.`item_id`
          FROM (
            SELECT
              *
            FROM `events` AS `t0`
            WHERE
              `t0`.`us` >= 1714521600000000
              AND `t0`.`us` < 1716940800000000
              AND `t0`.`client` IS NOT NULL
              AND `t0`.`action` = 0
          ) AS `t10`
          WHERE
            EXISTS(
              SELECT
                1
              FROM `t5` AS `t13`
              WHERE
                `t10`.`search` = `t13`.`search` AND `t10`.`item_id` = `t13`.`item_id`
            )
        ) AS `t18`
      ) AS `t21`
    ) AS `t26`
      ON `t12`.`search` = `t26`.`search` AND `t12`.`item_id` = `t26`.`item_id`
  ) AS `t28`
  GROUP BY
    1
), `t33` AS (
  SELECT
    `t29`.`client`,
    `t29`.`pause`,
    ROW_NUMBER() OVER (PARTITION BY `t29`.`client` ORDER BY `t29`.`pause` ASC) - 1 AS `place`,
    COUNT(*) OVER (
      PARTITION BY `t29`.`client`
      ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
    ) AS `rows`
  FROM (
    SELECT
      `t27`.`client`,
      `t27`.`pause`
    FROM (
      SELECT
        `t19`.`query_id`,
        `t19`.`search`,
        `t19`.`phrase`,
        `t19`.`us`,
        `t19`.`experiment`,
        `t19`.`client`,
        `t19`.`query`,
        `t19`.`us` - LAG(`t19`.`us`, 1) OVER (PARTITION BY `t19`.`client` ORDER BY `t19`.`us` ASC, `t19`.`search` ASC) AS `pause`,
        LAG(`t19`.`query`, 1) OVER (PARTITION BY `t19`.`client` ORDER BY `t19`.`us` ASC, `t19`.`search` ASC) AS `before`
      FROM (
        SELECT
          `t14`.`query_id`,
          `t14`.`search`,
          `t14`.`phrase`,
          `t14`.`us`,
          `t14`.`experiment`,
          `t14`.`client`,
          `t8`.`query`
        FROM `t7` AS `t14`
        INNER JOIN (
          SELECT
            `t2`.`phrase`,
            `t2`.`query`
          FROM `phrases` AS `t2`
        ) AS `t8`
          ON `t14`.`phrase` = `t8`.`phrase`
      ) AS `t19`
    ) AS `t27`
    WHERE
      `t27`.`before` IS NOT NULL
      AND NOT (
        STARTS_WITH(`t27`.`query`, `t27`.`before`)
        OR STARTS_WITH(`t27`.`before`, `t27`.`query`)
      )
      AND `t27`.`pause` <= 1800000000
  ) AS `t29`
)
SELECT
  `t52`.`client`,
  LOGICAL_OR(`t52`.`rule` = 'rate') AS `rate`,
  LOGICAL_OR(`t52`.`rule` = 'pace') AS `pace`,
  LOGICAL_OR(`t52`.`rule` = 'no_click') AS `no_click`,
  LOGICAL_OR(`t52`.`rule` = 'top_click') AS `top_click`,
  LOGICAL_OR(`t52`.`rule` = 'blind_click') AS `blind_click`
FROM (
  SELECT
    *
  FROM (
    SELECT
      *
    FROM (
      SELECT
        `t17`.`client`,
        'no_click' AS `rule`
      FROM `t16` AS `t17`
      WHERE
        `t17`.`clicks` = 0 AND `t17`.`impressions` >= 2000
    ) AS `t22`
    UNION ALL
    SELECT
      *
    FROM (
      SELECT
        `t17`.`client`,
        'top_click' AS `rule`
      FROM `t16` AS `t17`
      WHERE
        `t17`.`clicks` >= 50 AND `t17`.`top_clicks` >= (
          `t17`.`clicks` * 0.98
        )
    ) AS `t23`
  ) AS `t25`
  UNION ALL
  SELECT
    *
  FROM (
    SELECT
      *
    FROM (
      SELECT
        `t43`.`client`,
        'blind_click' AS `rule`
      FROM (
        SELECT
          `t32`.`client`,
          `t32`.`clicks`,
          `t32`.`blind`
        FROM `t30` AS `t32`
        CROSS JOIN (
          SELECT
            *
          FROM (
            SELECT
              SUM(`t31`.`clicks`) AS `all_clicks`,
              SUM(`t31`.`blind`) AS `all_blind`
            FROM `t30` AS `t31`
          ) AS `t36`
          WHERE
            (
              (
                SELECT
                  SUM(`t31`.`blind`) AS `Sum_blind`
                FROM `t30` AS `t31`
              ) * 2
            ) < (
              SELECT
                SUM(`t31`.`clicks`) AS `Sum_clicks`
              FROM `t30` AS `t31`
            )
        ) AS `t41`
      ) AS `t43`
      WHERE
        `t43`.`clicks` >= 50 AND `t43`.`blind` >= (
          `t43`.`clicks` * 0.9
        )
    ) AS `t45`
    UNION ALL
    SELECT
      *
    FROM (
      SELECT
        *
      FROM (
        SELECT
          `t15`.`client`,
          'rate' AS `rule`
        FROM (
          SELECT
            `t11`.`client`,
            CAST(FLOOR(ieee_divide(`t11`.`us`, 300000000)) AS INT64) AS `bucket`,
            COUNT(*) AS `searches`
          FROM `t7` AS `t11`
          GROUP BY
            1,
            2
        ) AS `t15`
        WHERE
          `t15`.`searches` > 100.0
      ) AS `t20`
      UNION ALL
      SELECT
        *
      FROM (
        SELECT
          `t48`.`client`,
          'pace' AS `rule`
        FROM (
          SELECT
            `t42`.`client`,
            `t42`.`pause`,
            `t42`.`rows`,
            `t47`.`usual`
          FROM (
            SELECT
              `t34`.`client`,
              `t34`.`pause`,
              `t34`.`rows`
            FROM `t33` AS `t34`
            WHERE
              (
                (
                  `t34`.`place` * 2
                ) = (
                  `t34`.`rows` - 1
                )
              )
              OR (
                (
                  `t34`.`place` * 2
                ) = (
                  `t34`.`rows` - 2
                )
              )
          ) AS `t42`
          CROSS JOIN (
            SELECT
              `t44`.`pause` AS `usual`
            FROM (
              SELECT
                `t40`.`pause`,
                ROW_NUMBER() OVER (ORDER BY `t40`.`pause` ASC) - 1 AS `place`,
                COUNT(*) OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS `rows`
              FROM (
                SELECT
                  `t34`.`pause`
                FROM `t33` AS `t34`
                WHERE
                  (
                    (
                      `t34`.`place` * 2
                    ) = (
                      `t34`.`rows` - 1
                    )
                  )
                  OR (
                    (
                      `t34`.`place` * 2
                    ) = (
                      `t34`.`rows` - 2
                    )
                  )
              ) AS `t40`
            ) AS `t44`
            WHERE
              (
                (
                  `t44`.`place` * 2
                ) = (
                  `t44`.`rows` - 1
                )
              )
              OR (
                (
                  `t44`.`place` * 2
                ) = (
                  `t44`.`rows` - 2
                )
              )
          ) AS `t47`
        ) AS `t48`
        WHERE
          `t48`.`rows` >= 20 AND (
            `t48`.`pause` * 10.0
          ) < `t48`.`usual`
      ) AS `t49`
    ) AS `t50`
  ) AS `t51`
) AS `t52`
GROUP BY
  1;

CREATE OR REPLACE TABLE `counted` AS
SELECT
  `t4`.`phrase`,
  `t4`.`query`,
  `t4`.`query_id`,
  `t4`.`judged`,
  COALESCE(`t12`.`searches`, 0) AS `frequency`,
  COALESCE(`t12`.`typists`, 0) AS `clients`,
  CASE
    WHEN `t7`.`evaluated` IS NOT NULL
    THEN 'evaluated_query'
    WHEN `t4`.`personal_only`
    THEN 'personal_data_only'
    WHEN NOT (
      `t4`.`judged`
    ) AND (
      COALESCE(`t12`.`typists`, 0) < 3
    )
    THEN 'too_rare_query'
    ELSE NULL
  END AS `reason`
FROM `phrases` AS `t4`
LEFT OUTER JOIN (
  SELECT
    `t10`.`phrase`,
    COUNT(*) AS `searches`,
    COUNT(DISTINCT `t10`.`client`) AS `typists`
  FROM (
    SELECT
      `t9`.`query_id`,
      `t9`.`search`,
      `t9`.`phrase`,
      `t9`.`us`,
      `t9`.`experiment`,
      `t9`.`client`
    FROM (
      SELECT
        *
      FROM `typed` AS `t2`
      WHERE
        `t2`.`us` >= 1714521600000000 AND `t2`.`us` < 1716940800000000
    ) AS `t9`
    WHERE
      NOT EXISTS(
        SELECT
          1
        FROM `bots` AS `t5`
        WHERE
          `t9`.`client` = `t5`.`client`
      )
  ) AS `t10`
  GROUP BY
    1
) AS `t12`
  ON `t4`.`phrase` = `t12`.`phrase`
LEFT OUTER JOIN (
  SELECT
    `t1`.`query`,
    TRUE AS `evaluated`
  FROM `hidden` AS `t1`
) AS `t7`
  ON `t4`.`query` = `t7`.`query`;

CREATE OR REPLACE VIEW `judged_events` AS
SELECT
  `t8`.`search`,
  `t8`.`phrase`,
  `t8`.`client`,
  `t8`.`session`,
  `t8`.`us`,
  `t8`.`action`,
  `t8`.`item_id`,
  `t8`.`position`,
  CASE
    WHEN NOT (
      (
        `t8`.`us` >= 1714521600000000
      ) AND (
        `t8`.`us` < 1716940800000000
      )
    )
    THEN 'outside_window'
    WHEN `t8`.`bot` IS NOT NULL
    THEN 'bot'
    ELSE `t8`.`reason`
  END AS `fate`
FROM (
  SELECT
    `t3`.`search`,
    `t3`.`phrase`,
    `t3`.`client`,
    `t3`.`session`,
    `t3`.`us`,
    `t3`.`action`,
    `t3`.`item_id`,
    `t3`.`position`,
    `t6`.`reason`,
    `t7`.`bot`
  FROM `events` AS `t3`
  INNER JOIN (
    SELECT
      `t1`.`phrase`,
      `t1`.`reason`
    FROM `counted` AS `t1`
  ) AS `t6`
    ON `t3`.`phrase` = `t6`.`phrase`
  LEFT OUTER JOIN (
    SELECT
      `t2`.`client` AS `bot`
    FROM `bots` AS `t2`
  ) AS `t7`
    ON `t3`.`client` = `t7`.`bot`
) AS `t8`;

CREATE OR REPLACE VIEW `kept` AS
SELECT
  `t1`.*
  EXCEPT (`fate`)
FROM (
  SELECT
    *
  FROM `judged_events` AS `t0`
  WHERE
    `t0`.`fate` IS NULL
) AS `t1`;

SELECT
  `t0`.`fate`,
  COUNT(*) AS `rows`
FROM `judged_events` AS `t0`
GROUP BY
  1;

CREATE OR REPLACE TABLE `shown` AS
SELECT
  `t5`.`search`,
  `t5`.`phrase`,
  `t5`.`item_id`,
  `t5`.`client`,
  `t5`.`day`,
  `t5`.`seen`,
  `t5`.`clicked`,
  `t5`.`carted`,
  `t5`.`bought`,
  `t5`.`position`,
  `t3`.`experiment`
FROM (
  SELECT
    `t0`.`search`,
    `t0`.`phrase`,
    `t0`.`item_id`,
    MIN(`t0`.`client`) AS `client`,
    CAST(CAST(FLOOR(ieee_divide(MIN(`t0`.`us`), 86400000000)) AS INT64) AS INT64) AS `day`,
    LOGICAL_OR(`t0`.`action` = 0) AS `seen`,
    LOGICAL_OR(`t0`.`action` = 1) AS `clicked`,
    LOGICAL_OR(`t0`.`action` = 2) AS `carted`,
    LOGICAL_OR(`t0`.`action` = 3) AS `bought`,
    COALESCE(MIN(IF(`t0`.`action` = 0, `t0`.`position`, NULL)), MIN(`t0`.`position`), 1) AS `position`
  FROM `kept` AS `t0`
  GROUP BY
    1,
    2,
    3
) AS `t5`
LEFT OUTER JOIN (
  SELECT
    `t1`.`search`,
    `t1`.`experiment`
  FROM `typed` AS `t1`
) AS `t3`
  ON `t5`.`search` = `t3`.`search`;

SELECT
  *
FROM (
  SELECT
    DENSE_RANK() OVER (ORDER BY `t4`.`phrase` ASC, `t4`.`item_id` ASC) - 1 AS `number`,
    `t4`.`position` - 1 AS `position`,
    `t4`.`impressions`,
    `t4`.`clicks`
  FROM (
    SELECT
      *
    FROM (
      SELECT
        `t2`.`phrase`,
        `t2`.`item_id`,
        `t2`.`position`,
        `t2`.`impressions`,
        `t2`.`clicks`,
        MIN(`t2`.`position`) OVER (
          PARTITION BY `t2`.`phrase`, `t2`.`item_id`
          ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
        ) AS `top`,
        SUM(`t2`.`impressions`) OVER (
          PARTITION BY `t2`.`phrase`, `t2`.`item_id`
          ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
        ) AS `in_all`,
        SUM(`t2`.`clicks`) OVER (
          PARTITION BY `t2`.`phrase`, `t2`.`item_id`
          ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
        ) AS `clicked`
      FROM (
        SELECT
          `t1`.`phrase`,
          `t1`.`item_id`,
          `t1`.`position`,
          COUNT(*) AS `impressions`,
          SUM(CAST(`t1`.`clicked` AS INT64)) AS `clicks`
        FROM (
          SELECT
            *
          FROM `shown` AS `t0`
          WHERE
            `t0`.`seen` AND `t0`.`position` <= 50
        ) AS `t1`
        GROUP BY
          1,
          2,
          3
      ) AS `t2`
    ) AS `t3`
    WHERE
      `t3`.`top` = 1 AND `t3`.`clicked` > 0
  ) AS `t4`
) AS `t5`
ORDER BY
  `t5`.`number` ASC NULLS LAST,
  `t5`.`position` ASC NULLS LAST;

SELECT
  *
FROM (
  SELECT
    DENSE_RANK() OVER (ORDER BY `t4`.`phrase` ASC, `t4`.`item_id` ASC) - 1 AS `number`,
    `t4`.`position` - 1 AS `position`,
    `t4`.`impressions`,
    `t4`.`clicks`
  FROM (
    SELECT
      *
    FROM (
      SELECT
        `t2`.`phrase`,
        `t2`.`item_id`,
        `t2`.`position`,
        `t2`.`impressions`,
        `t2`.`clicks`,
        MIN(`t2`.`position`) OVER (
          PARTITION BY `t2`.`phrase`, `t2`.`item_id`
          ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
        ) AS `top`,
        SUM(`t2`.`impressions`) OVER (
          PARTITION BY `t2`.`phrase`, `t2`.`item_id`
          ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
        ) AS `in_all`,
        SUM(`t2`.`clicks`) OVER (
          PARTITION BY `t2`.`phrase`, `t2`.`item_id`
          ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
        ) AS `clicked`
      FROM (
        SELECT
          `t1`.`phrase`,
          `t1`.`item_id`,
          `t1`.`position`,
          COUNT(*) AS `impressions`,
          SUM(CAST(`t1`.`clicked` AS INT64)) AS `clicks`
        FROM (
          SELECT
            *
          FROM `shown` AS `t0`
          WHERE
            `t0`.`seen` AND `t0`.`position` <= 50
        ) AS `t1`
        GROUP BY
          1,
          2,
          3
      ) AS `t2`
    ) AS `t3`
    WHERE
      `t3`.`in_all` >= 100
  ) AS `t4`
) AS `t5`
ORDER BY
  `t5`.`number` ASC NULLS LAST,
  `t5`.`position` ASC NULLS LAST;

SELECT
  *
FROM (
  SELECT
    DENSE_RANK() OVER (ORDER BY `t4`.`phrase` ASC) - 1 AS `number`,
    `t4`.`position` - 1 AS `position`,
    `t4`.`impressions`,
    `t4`.`clicks`
  FROM (
    SELECT
      *
    FROM (
      SELECT
        `t2`.`phrase`,
        `t2`.`position`,
        `t2`.`impressions`,
        `t2`.`clicks`,
        MIN(`t2`.`position`) OVER (
          PARTITION BY `t2`.`phrase`
          ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
        ) AS `top`,
        SUM(`t2`.`impressions`) OVER (
          PARTITION BY `t2`.`phrase`
          ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
        ) AS `in_all`,
        SUM(`t2`.`clicks`) OVER (
          PARTITION BY `t2`.`phrase`
          ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
        ) AS `clicked`
      FROM (
        SELECT
          `t1`.`phrase`,
          `t1`.`position`,
          COUNT(*) AS `impressions`,
          SUM(CAST(`t1`.`clicked` AS INT64)) AS `clicks`
        FROM (
          SELECT
            *
          FROM `shown` AS `t0`
          WHERE
            `t0`.`seen` AND `t0`.`position` <= 50 AND `t0`.`experiment` = 'explore'
        ) AS `t1`
        GROUP BY
          1,
          2
      ) AS `t2`
    ) AS `t3`
    WHERE
      `t3`.`top` = 1 AND `t3`.`clicked` > 0
  ) AS `t4`
) AS `t5`
ORDER BY
  `t5`.`number` ASC NULLS LAST,
  `t5`.`position` ASC NULLS LAST;

CREATE OR REPLACE TABLE `counts` AS
SELECT
  `t5`.`phrase`,
  `t5`.`item_id`,
  `t5`.`day`,
  COUNT(*) AS `impressions`,
  SUM(CAST(`t5`.`clicked` AS INT64)) AS `clicks`,
  SUM(CAST(`t5`.`carted` AS INT64)) AS `add_to_carts`,
  SUM(CAST(`t5`.`bought` AS INT64)) AS `purchases`,
  COUNT(DISTINCT `t5`.`client`) AS `clients`,
  SUM(`t5`.`weight`) AS `weight`,
  SUM((
    CAST(`t5`.`clicked` AS INT64) * 1000000000
  ) - `t5`.`trust`) AS `credit`
FROM (
  SELECT
    `t4`.`search`,
    `t4`.`phrase`,
    `t4`.`item_id`,
    `t4`.`client`,
    `t4`.`day`,
    `t4`.`seen`,
    `t4`.`clicked`,
    `t4`.`carted`,
    `t4`.`bought`,
    `t4`.`position`,
    `t4`.`experiment`,
    `t4`.`place`,
    `t2`.`weight`,
    `t2`.`trust`
  FROM (
    SELECT
      `t0`.`search`,
      `t0`.`phrase`,
      `t0`.`item_id`,
      `t0`.`client`,
      `t0`.`day`,
      `t0`.`seen`,
      `t0`.`clicked`,
      `t0`.`carted`,
      `t0`.`bought`,
      `t0`.`position`,
      `t0`.`experiment`,
      LEAST(`t0`.`position`, 1000) AS `place`
    FROM `shown` AS `t0`
  ) AS `t4`
  INNER JOIN `weights` AS `t2`
    ON `t4`.`place` = `t2`.`place`
) AS `t5`
GROUP BY
  1,
  2,
  3;

CREATE OR REPLACE TABLE `turns` AS
SELECT
  `t10`.`client`,
  `t10`.`search`,
  `t10`.`phrase`,
  `t10`.`us`,
  `t10`.`clicked`,
  `t10`.`is_first`,
  `t10`.`before_clicked`,
  CASE WHEN NOT (
    `t10`.`is_first`
  ) THEN `t10`.`before_phrase` ELSE NULL END AS `before`
FROM (
  SELECT
    `t9`.`client`,
    `t9`.`search`,
    `t9`.`phrase`,
    `t9`.`us`,
    `t9`.`session`,
    `t9`.`clicked`,
    `t9`.`before_phrase`,
    `t9`.`before_us`,
    `t9`.`before_session`,
    `t9`.`before_clicked`,
    CASE
      WHEN `t9`.`before_us` IS NULL
      THEN TRUE
      WHEN (
        `t9`.`session` IS NOT NULL
      ) AND (
        `t9`.`before_session` IS NOT NULL
      )
      THEN `t9`.`session` <> `t9`.`before_session`
      ELSE (
        `t9`.`us` - `t9`.`before_us`
      ) > 1800000000
    END AS `is_first`
  FROM (
    SELECT
      `t8`.`client`,
      `t8`.`search`,
      `t8`.`phrase`,
      `t8`.`us`,
      `t8`.`session`,
      `t8`.`clicked`,
      LAG(`t8`.`phrase`, 1) OVER (PARTITION BY `t8`.`client` ORDER BY `t8`.`us` ASC, `t8`.`search` ASC) AS `before_phrase`,
      LAG(`t8`.`us`, 1) OVER (PARTITION BY `t8`.`client` ORDER BY `t8`.`us` ASC, `t8`.`search` ASC) AS `before_us`,
      LAG(`t8`.`session`, 1) OVER (PARTITION BY `t8`.`client` ORDER BY `t8`.`us` ASC, `t8`.`search` ASC) AS `before_session`,
      LAG(`t8`.`clicked`, 1) OVER (PARTITION BY `t8`.`client` ORDER BY `t8`.`us` ASC, `t8`.`search` ASC) AS `before_clicked`
    FROM (
      SELECT
        `t5`.`client`,
        `t5`.`search`,
        `t5`.`phrase`,
        `t5`.`us`,
        `t7`.`session`,
        COALESCE(`t7`.`clicked`, FALSE) AS `clicked`
      FROM (
        SELECT
          *
        FROM `typed` AS `t0`
        WHERE
          `t0`.`us` >= 1714521600000000
          AND `t0`.`us` < 1716940800000000
          AND `t0`.`client` IS NOT NULL
      ) AS `t5`
      LEFT OUTER JOIN (
        SELECT
          `t2`.`search`,
          MIN(`t2`.`session`) AS `session`,
          LOGICAL_OR(`t2`.`action` = 1) AS `clicked`
        FROM `events` AS `t2`
        GROUP BY
          1
      ) AS `t7`
        ON `t5`.`search` = `t7`.`search`
      WHERE
        NOT EXISTS(
          SELECT
            1
          FROM `bots` AS `t3`
          WHERE
            `t5`.`client` = `t3`.`client`
        )
    ) AS `t8`
  ) AS `t9`
) AS `t10`;

CREATE OR REPLACE VIEW `chains` AS
SELECT
  `t2`.`client`,
  `t2`.`search`,
  `t2`.`phrase`,
  `t2`.`us`,
  `t2`.`clicked`,
  `t2`.`is_first`,
  `t2`.`before_clicked`,
  `t2`.`before`,
  COALESCE(`t4`.`is_pair`, FALSE) AS `rewords`
FROM `turns` AS `t2`
LEFT OUTER JOIN (
  SELECT
    `t1`.`before`,
    `t1`.`phrase`,
    TRUE AS `is_pair`
  FROM `reworded` AS `t1`
) AS `t4`
  ON `t2`.`before` = `t4`.`before` AND `t2`.`phrase` = `t4`.`phrase`;

SELECT
  COUNTIF(`t1`.`is_first`) AS `sessions_count`,
  COUNTIF(`t1`.`rewords` AND NOT (
    `t1`.`continued`
  )) AS `sessions_chains`,
  COUNTIF(`t1`.`rewords`) AS `sessions_rewordings`
FROM (
  SELECT
    `t0`.`client`,
    `t0`.`search`,
    `t0`.`phrase`,
    `t0`.`us`,
    `t0`.`clicked`,
    `t0`.`is_first`,
    `t0`.`before_clicked`,
    `t0`.`before`,
    `t0`.`rewords`,
    COALESCE(
      LAG(`t0`.`rewords`, 1) OVER (PARTITION BY `t0`.`client` ORDER BY `t0`.`us` ASC, `t0`.`search` ASC),
      FALSE
    )
    AND NOT (
      `t0`.`is_first`
    ) AS `continued`
  FROM `chains` AS `t0`
) AS `t1`;

SELECT
  *
FROM (
  SELECT
    `t3`.`search`,
    `t3`.`client`,
    `t3`.`session`,
    `t3`.`us`,
    `t3`.`action`,
    `t3`.`item_id`,
    `t3`.`position`,
    `t6`.`query`,
    `t6`.`query_id`,
    `t4`.`name` AS `item`
  FROM `kept` AS `t3`
  INNER JOIN (
    SELECT
      `t2`.`phrase`,
      `t2`.`query`,
      `t2`.`query_id`
    FROM `phrases` AS `t2`
  ) AS `t6`
    ON `t3`.`phrase` = `t6`.`phrase`
  INNER JOIN `things` AS `t4`
    ON `t3`.`item_id` = `t4`.`code`
) AS `t7`
ORDER BY
  `t7`.`us` ASC NULLS LAST,
  `t7`.`search` ASC NULLS LAST,
  `t7`.`item_id` ASC NULLS LAST,
  `t7`.`action` ASC NULLS LAST,
  COALESCE(`t7`.`client`, 0) ASC NULLS LAST,
  COALESCE(`t7`.`session`, 0) ASC NULLS LAST,
  COALESCE(`t7`.`position`, 0) ASC NULLS LAST;

SELECT
  *
FROM (
  SELECT
    `t6`.`query`,
    `t3`.`day`,
    `t3`.`impressions`,
    `t3`.`clicks`,
    `t3`.`add_to_carts`,
    `t3`.`purchases`,
    `t3`.`clients`,
    `t3`.`weight`,
    `t3`.`credit`,
    `t4`.`name` AS `item`
  FROM `counts` AS `t3`
  INNER JOIN (
    SELECT
      `t2`.`phrase`,
      `t2`.`query`
    FROM `phrases` AS `t2`
  ) AS `t6`
    ON `t3`.`phrase` = `t6`.`phrase`
  INNER JOIN `things` AS `t4`
    ON `t3`.`item_id` = `t4`.`code`
) AS `t7`
ORDER BY
  `t7`.`query` ASC NULLS LAST,
  `t7`.`item` ASC NULLS LAST,
  `t7`.`day` ASC NULLS LAST;

WITH `t4` AS (
  SELECT
    *
  FROM `counted` AS `t1`
  WHERE
    `t1`.`reason` IS NULL
), `t10` AS (
  SELECT
    `t6`.`query`,
    `t6`.`query_id`,
    `t6`.`judged`,
    `t6`.`frequency`,
    CASE
      WHEN `t6`.`frequency` = 0
      THEN 'unseen'
      WHEN `t9`.`before` < (
        `t9`.`total` * 0.5
      )
      THEN 'head'
      WHEN `t9`.`before` < (
        `t9`.`total` * 0.8
      )
      THEN 'torso'
      ELSE 'tail'
    END AS `segment`
  FROM `t4` AS `t6`
  INNER JOIN (
    SELECT
      `t7`.`frequency` AS `level`,
      SUM(`t7`.`searches`) OVER (ORDER BY `t7`.`frequency` DESC ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) - `t7`.`searches` AS `before`,
      SUM(`t7`.`searches`) OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS `total`
    FROM (
      SELECT
        `t5`.`frequency`,
        SUM(`t5`.`frequency`) AS `searches`
      FROM `t4` AS `t5`
      GROUP BY
        1
    ) AS `t7`
  ) AS `t9`
    ON `t6`.`frequency` = `t9`.`level`
)
SELECT
  *
FROM (
  SELECT
    *
  FROM (
    SELECT
      `t3`.`query_id`,
      `t3`.`query_text`,
      `t3`.`query`,
      COALESCE(`t13`.`searches`, 0) AS `frequency`,
      COALESCE(`t13`.`place`, 'unseen') AS `segment`,
      `t3`.`kind`,
      `t3`.`split`
    FROM (
      SELECT
        `t0`.`query_id`,
        `t0`.`query_text`,
        `t0`.`query`,
        `t0`.`kind`,
        `t0`.`split`
      FROM `judged` AS `t0`
    ) AS `t3`
    LEFT OUTER JOIN (
      SELECT
        `t11`.`query`,
        `t11`.`frequency` AS `searches`,
        `t11`.`segment` AS `place`
      FROM `t10` AS `t11`
    ) AS `t13`
      ON `t3`.`query` = `t13`.`query`
  ) AS `t15`
  UNION ALL
  SELECT
    *
  FROM (
    SELECT
      `t11`.`query_id`,
      `t11`.`query` AS `query_text`,
      `t11`.`query`,
      `t11`.`frequency`,
      `t11`.`segment`,
      CAST(NULL AS STRING) AS `kind`,
      CAST(NULL AS STRING) AS `split`
    FROM `t10` AS `t11`
    WHERE
      NOT (
        `t11`.`judged`
      ) AND `t11`.`frequency` > 0
  ) AS `t14`
) AS `t16`
ORDER BY
  `t16`.`query_id` ASC NULLS LAST;

SELECT
  *
FROM (
  SELECT
    `t5`.`first` AS `query`,
    `t6`.`second` AS `next_query`,
    `t9`.`times`,
    `t9`.`clients`,
    `t9`.`satisfied`
  FROM (
    SELECT
      *
    FROM (
      SELECT
        `t2`.`before`,
        `t2`.`phrase`,
        COUNT(*) AS `times`,
        COUNT(DISTINCT `t2`.`client`) AS `clients`,
        COUNTIF(`t2`.`clicked` AND NOT (
          `t2`.`before_clicked`
        )) AS `satisfied`
      FROM (
        SELECT
          *
        FROM `chains` AS `t1`
        WHERE
          `t1`.`rewords`
      ) AS `t2`
      GROUP BY
        1,
        2
    ) AS `t7`
    WHERE
      `t7`.`clients` >= 3
  ) AS `t9`
  INNER JOIN (
    SELECT
      `t0`.`phrase` AS `before`,
      `t0`.`query` AS `first`
    FROM `counted` AS `t0`
    WHERE
      `t0`.`reason` IS NULL
  ) AS `t5`
    ON `t9`.`before` = `t5`.`before`
  INNER JOIN (
    SELECT
      `t0`.`phrase`,
      `t0`.`query` AS `second`
    FROM `counted` AS `t0`
    WHERE
      `t0`.`reason` IS NULL
  ) AS `t6`
    ON `t9`.`phrase` = `t6`.`phrase`
) AS `t10`
ORDER BY
  `t10`.`query` ASC NULLS LAST,
  `t10`.`next_query` ASC NULLS LAST;
